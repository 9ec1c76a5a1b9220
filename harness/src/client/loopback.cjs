// Loaded into each of openclaw's processes before its own code: what it looks up or connects to beyond this machine does
// not exist. Its settings leave some calls for which it has no switch.
'use strict';

const dgram = require('node:dgram');
const dns = require('node:dns');
const { syncBuiltinESMExports } = require('node:module');
const net = require('node:net');

const isHere = (host) =>
  !host || host === 'localhost' || host === '::1' || (net.isIPv4(host) && host.startsWith('127.'));

const refusal = (host) =>
  Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}: nothing beyond this machine is reached in a run`), {
    code: 'ENOTFOUND',
    errno: -3008,
    syscall: 'getaddrinfo',
    hostname: host,
  });

const lookup = dns.lookup;
dns.lookup = function (host, options, callback) {
  if (isHere(host)) return lookup.apply(this, arguments);
  process.nextTick(typeof options === 'function' ? options : callback, refusal(host));
};

const lookupLater = dns.promises.lookup;
dns.promises.lookup = function (host) {
  return isHere(host) ? lookupLater.apply(this, arguments) : Promise.reject(refusal(host));
};

// What asks a name server itself, which may be on this machine and ask others.
const refuseAll = (names, refuse) => {
  for (const name of Object.getOwnPropertyNames(names)) {
    if (/^(resolve|reverse)/.test(name) && typeof names[name] === 'function') names[name] = refuse;
  }
};
const refuseLater = (host, ...more) => process.nextTick(more.at(-1), refusal(host));
const refuseByPromise = (host) => Promise.reject(refusal(host));
refuseAll(dns, refuseLater);
refuseAll(dns.Resolver.prototype, refuseLater);
refuseAll(Object.getPrototypeOf(dns.Resolver.prototype), refuseLater);
refuseAll(dns.promises, refuseByPromise);
refuseAll(dns.promises.Resolver.prototype, refuseByPromise);

// The address of each datagram is looked up, also where it is a number, and so is the one that a socket is bound to.
const WILDCARDS = ['0.0.0.0', '::'];
const lookupHere = (host, options, callback) =>
  isHere(host) || WILDCARDS.includes(host)
    ? lookup(host, options, callback)
    : process.nextTick(typeof options === 'function' ? options : callback, refusal(host));
const createSocket = dgram.createSocket;
dgram.createSocket = function (options, listener) {
  const given = typeof options === 'string' ? { type: options } : options;
  return createSocket.call(this, { ...given, lookup: lookupHere }, listener);
};

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  // Node itself hands the arguments on as one list.
  const [first, second] = Array.isArray(given[0]) ? given[0] : given;
  const host = typeof first === 'object' && first !== null ? first.host : typeof second === 'string' ? second : undefined;
  if (isHere(host)) return connect.apply(this, given);
  process.nextTick(() => this.destroy(refusal(host)));
  return this;
};

syncBuiltinESMExports();
