//! Access lines of uvicorn, the server of LiteLLM and of vLLM: one a request, printed when its answer begins.
//!
//! They hold method, path and status, and no model, so they count what a server answered and name no reply.

use std::net::IpAddr;

/// Paths that make a model work; a client may put a prefix before them.
const MODEL_PATHS: [&str; 12] = [
    "/completions",
    "/embeddings",
    "/responses",
    "/messages",
    "/rerank",
    "/images/generations",
    "/images/edits",
    "/audio/speech",
    "/audio/transcriptions",
    "/moderations",
    ":generateContent",
    ":streamGenerateContent",
];

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLine {
    /// Who asked; behind a node or a port-forward it is not the client itself.
    pub client: Option<IpAddr>,
    /// It makes a model work.
    pub calls_a_model: bool,
    /// HTTP status.
    pub status: u16,
}

impl AccessLine {
    /// Read `INFO: 10.0.0.7:51234 - "POST /v1/chat/completions HTTP/1.1" 200 OK`, also inside JSON; `None` for any
    /// other line.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (before, request, after) = parts(line)?;
        let mut words = request.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !version.starts_with("HTTP/") || !target.starts_with('/') {
            return None;
        }
        let digits: String = after.trim_start().chars().take_while(char::is_ascii_digit).collect();
        let status = digits.parse().ok().filter(|status| (100..600).contains(status))?;
        let path = target.split('?').next().unwrap_or_default().trim_end_matches('/');
        let calls_a_model = method == "POST" && MODEL_PATHS.iter().any(|end| path.ends_with(end));
        Some(Self { client: client(before), calls_a_model, status })
    }
}

/// What stands before, in and after the first quotes that hold a request.
fn parts(line: &str) -> Option<(&str, &str, &str)> {
    let quote = if line.contains("\\\"") { "\\\"" } else { "\"" };
    let (before, rest) = line.split_once(quote)?;
    let (request, after) = rest.split_once(quote)?;
    Some((before, request, after))
}

/// The address in `... 10.0.0.7:51234 - `, or `[::1]:51234`.
fn client(before: &str) -> Option<IpAddr> {
    let place = before.trim_end().trim_end_matches('-').trim_end();
    let place = place.rsplit([' ', '"', '\t']).next()?;
    let (address, port) = place.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    address.trim_matches(['[', ']']).parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::AccessLine;

    fn line(from: &str, request: &str) -> String {
        format!("INFO:     {from} - \"{request} HTTP/1.1\" 200 OK")
    }

    #[test]
    fn access_lines_are_read_in_both_forms_and_nothing_else_is() {
        let read =
            |line: &str| AccessLine::parse(line).map(|line| (line.client, line.calls_a_model, line.status));
        let client = Some("10.42.0.7".parse().unwrap());
        let plain = line("10.42.0.7:51234", "POST /v1/chat/completions?x=1");
        assert_eq!(read(&plain), Some((client, true, 200)));
        let json =
            r#"{"message": "10.42.0.7:51234 - \"POST /v1/embeddings HTTP/1.1\" 503", "level": "INFO"}"#;
        assert_eq!(read(json), Some((client, true, 503)));
        assert_eq!(read(&line("10.42.0.7:1", "GET /health/liveliness")), Some((client, false, 200)));
        assert_eq!(read(&line("10.42.0.7:1", "POST /key/generate")), Some((client, false, 200)));
        let six = read(&line("[fd00::7]:1", "POST /engines/x/chat/completions")).unwrap();
        assert_eq!((six.0, six.1), (Some("fd00::7".parse().unwrap()), true));
        assert_eq!(read(&line("unix", "POST /chat/completions")), Some((None, true, 200)));
        for other in
            ["", "Traceback", "said \"hello there\" 200", "\"POST / HTTP/1.1\" no", "\"a b c d\" 200"]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn vllm_puts_its_process_before_the_line() {
        let line = format!("(APIServer pid=1) {}", line("10.42.0.7:51234", "POST /v1/chat/completions"));
        let read = AccessLine::parse(&line).unwrap();
        assert_eq!(
            (read.client, read.calls_a_model, read.status),
            (Some("10.42.0.7".parse().unwrap()), true, 200)
        );
    }

    proptest! {
        #[test]
        fn quoted_things_do_not_panic(text in "[ \"\\\\:/0-9A-Z.\\[\\]-]{0,80}") {
            let _ = AccessLine::parse(&text);
        }
    }
}
