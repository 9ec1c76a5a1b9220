//! Ollama's access lines, as its server GIN prints them: one a request, at its end.
//!
//! They hold method, path and status, and no model, so they count what Ollama answered and name no reply. A stream that
//! its client left has 200 as well.

use super::uvicorn_log::AccessLine;

/// Paths that make a model work, of Ollama's own API and of those that it imitates.
const MODEL_PATHS: [&str; 8] = [
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
];

/// Read `[GIN] 2026/11/24 - 02:13:05 | 200 | 1.2s | 10.42.0.7 | POST "/api/chat"`; `None` for any other line.
#[must_use]
pub fn read(line: &str) -> Option<AccessLine> {
    let (_, rest) = line.split_once("[GIN] ")?;
    let mut parts = rest.splitn(5, '|').map(str::trim);
    let (_at, status, _took, client) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (method, path) = parts.next()?.split_once(char::is_whitespace)?;
    let (_, path) = path.split_once('"')?;
    let (path, _) = path.split_once('"')?;
    let status = status.parse().ok().filter(|status| (100..600).contains(status))?;
    let path = path.split('?').next().unwrap_or_default().trim_end_matches('/');
    let calls_a_model = method == "POST" && MODEL_PATHS.contains(&path);
    Some(AccessLine { client: client.parse().ok(), calls_a_model, status })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::read;

    #[test]
    fn lines_of_gin_are_read_and_no_others() {
        let line = |status: u16, method: &str, path: &str| {
            format!(
                "[GIN] 2026/11/24 - 02:13:05 | {status} |  1.234567s |       10.42.0.7 | {method:<7}  \"{path}\""
            )
        };
        let told = |line: &str| read(line).map(|line| (line.calls_a_model, line.status));
        assert_eq!(told(&line(200, "POST", "/api/chat")), Some((true, 200)));
        assert_eq!(told(&line(499, "POST", "/api/chat")), Some((true, 499)));
        assert_eq!(told(&line(200, "GET", "/api/tags")), Some((false, 200)));
        assert_eq!(told(&line(200, "HEAD", "/")), Some((false, 200)));
        assert_eq!(told(&line(200, "POST", "/api/show")), Some((false, 200)));
        assert_eq!(read(&line(200, "POST", "/api/chat")).unwrap().client, Some("10.42.0.7".parse().unwrap()));
        let coloured = "[GIN] x |\u{1b}[97;42m 200 \u{1b}[0m| 1s | 10.42.0.7 | POST \"/api/chat\"";
        for other in ["", "[GIN] ", "[GIN-debug] GET / --> x", "[GIN] a | 200 | b | c | POST", coloured] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(text in "(\\[GIN\\] )?[ |\"/0-9A-Z.-]{0,80}") {
            let _ = read(&text);
        }
    }
}
