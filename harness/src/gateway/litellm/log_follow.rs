//! The log while it is written.

use std::io::{self, SeekFrom};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use super::log_tail::plain_line;

/// Between two looks whether there is more.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A longer line is cut.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Gives each line that is added to the log at `path` from now on to `take`, with the client that it names; ends when
/// it cannot be read.
pub(super) fn follow<T>(path: &Path, take: T) -> impl Future<Output = ()> + use<T>
where
    T: Fn(Option<SocketAddr>, &str),
{
    let opened = std::fs::File::open(path).and_then(|mut file| {
        io::Seek::seek(&mut file, SeekFrom::End(0))?;
        Ok(tokio::fs::File::from_std(file))
    });
    async move {
        let Ok(mut file) = opened else { return };
        let (mut line, mut bytes) = (Vec::new(), vec![0; 16 * 1024]);
        while let Ok(count) = file.read(&mut bytes).await {
            if count == 0 {
                sleep(LOOK_EVERY).await;
            }
            for part in bytes[..count].split_inclusive(|byte| *byte == b'\n') {
                let room = LINE_BYTES_MAX.saturating_sub(line.len());
                line.extend_from_slice(&part[..part.len().min(room)]);
                if part.ends_with(b"\n") {
                    let text = plain_line(&line);
                    take(client(&text), &text);
                    line.clear();
                }
            }
        }
    }
}

/// Whose request an access line is about: `INFO:     127.0.0.1:41234 - "GET / HTTP/1.1" 200 OK`.
fn client(line: &str) -> Option<SocketAddr> {
    let (before, _) = line.split_once(" - \"")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::{LINE_BYTES_MAX, follow};

    #[tokio::test]
    async fn lines_that_are_added_are_given_whole_with_their_client() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"from before\n").unwrap();
        let (lines, mut taken) = mpsc::unbounded_channel();
        let take = move |client, line: &str| drop(lines.send((client, line.to_owned())));
        let following = tokio::spawn(follow(file.path(), take));
        let mut next =
            async || tokio::time::timeout(Duration::from_secs(10), taken.recv()).await.unwrap().unwrap();
        file.write_all(b"\x1b[32mINFO\x1b[0m:     127.0.0.1:41234 - \"GET /").unwrap();
        file.write_all(b" HTTP/1.1\" 200 OK\nno - client\n").unwrap();
        let line = "INFO:     127.0.0.1:41234 - \"GET / HTTP/1.1\" 200 OK".to_owned();
        assert_eq!(next().await, (Some("127.0.0.1:41234".parse().unwrap()), line));
        assert_eq!(next().await, (None, "no - client".to_owned()));
        file.write_all(&[b'x'; 3 * LINE_BYTES_MAX]).unwrap();
        file.write_all(b"\nlast\n").unwrap();
        assert_eq!(next().await.1.len(), LINE_BYTES_MAX);
        assert_eq!(next().await.1, "last");
        following.abort();
    }
}
