//! What a number of events supports, against tables and against counting it out.

mod claims;
mod differences;
