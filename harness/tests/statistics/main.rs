//! What a number of events supports, against tables and against counting it out.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod claims;
mod differences;
