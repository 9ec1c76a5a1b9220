//! The accidents: runs that are killed, paused, doubled and disturbed, and what `harness restore` makes of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[expect(dead_code, reason = "it is shared with tests that do more with it")]
#[path = "../cluster/child.rs"]
mod child;
mod ended;
mod hangs;
mod killed;
mod order;
mod paused;
mod records;
mod refused;
mod rights;
mod shared;
#[expect(dead_code, reason = "it is shared with tests that do more with it")]
#[path = "../cluster/stack.rs"]
mod stack;
mod unjournaled;
mod unlocked;
mod unreadable;
