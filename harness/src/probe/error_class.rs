//! Error classes that a person understands.

use std::error::Error;
use std::io::ErrorKind;

/// The class of a transport error, from the causes behind it.
#[must_use]
pub fn classify(error: &reqwest::Error) -> &'static str {
    let causes: Vec<&(dyn Error + 'static)> = causes(error).collect();
    let io = causes.iter().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    let said = causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(": ").to_lowercase();
    if said.contains("dns error") || said.contains("failed to lookup") {
        return "dns";
    }
    if said.contains("certificate") || said.contains("tls") || said.contains("handshake") {
        return "tls";
    }
    match io {
        Some(ErrorKind::ConnectionRefused) => return "connect-refused",
        Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted) => {
            return "reset";
        }
        Some(ErrorKind::TimedOut) if error.is_connect() => return "connect-timeout",
        Some(_) | None => {}
    }
    if error.is_connect() && error.is_timeout() {
        "connect-timeout"
    } else if error.is_connect() {
        "connect-failed"
    } else if error.is_timeout() {
        "client-timeout"
    } else if said.contains("incomplete message") || said.contains("end of file") || said.contains("eof") {
        "cut-reply"
    } else if error.is_decode() || said.contains("parse") {
        "malformed"
    } else {
        "transport"
    }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |cause| (*cause).source())
}
