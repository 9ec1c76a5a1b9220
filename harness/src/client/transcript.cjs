// Prints what openclaw's own transcripts say of the answer to each probe: one line of JSON an answer. Reads only.
'use strict';

const { existsSync, readdirSync } = require('node:fs');
const { join } = require('node:path');
const { DatabaseSync } = require('node:sqlite');
const { zstdDecompressSync } = require('node:zlib');

const MARKER = /\[probe:([A-Za-z0-9_.-]{1,64})\]/;
const QUERY = 'SELECT session_id, event_json, event_zstd FROM transcript_events ORDER BY session_id, seq';
const CHARS_MAX = 200;

const textOf = (content) =>
  Array.isArray(content) ? content.map((part) => part?.text ?? '').join('\n') : String(content ?? '');
const bounded = (value) => (typeof value === 'string' ? value.slice(0, CHARS_MAX) : undefined);

const agents = join(process.argv[1], 'agents');
for (const agent of readdirSync(agents)) {
  const file = join(agents, agent, 'agent', 'openclaw-agent.sqlite');
  if (!existsSync(file)) continue;
  const database = new DatabaseSync(file, { readOnly: true });
  let session;
  let probe;
  for (const row of database.prepare(QUERY).iterate()) {
    if (row.session_id !== session) [session, probe] = [row.session_id, undefined];
    const { type, message } = JSON.parse(row.event_json ?? zstdDecompressSync(row.event_zstd).toString());
    if (type !== 'message' || !message) continue;
    if (message.role === 'user') probe = MARKER.exec(textOf(message.content))?.[1];
    if (message.role !== 'assistant' || !probe || message.stopReason === 'error') continue;
    const said = { probe, asked: bounded(message.model), response_model: bounded(message.responseModel) };
    console.log(JSON.stringify(said));
  }
}
