//! The mock world: upstreams that answer as Ollama and vLLM do, fault gates before them, and the record of
//! what really happened. Everything listens on loopback and takes its chances from a seed. `docs/mock-world.md`
//! is the tour; [`world::World`] is where to start.

pub mod control;
pub mod egress;
pub mod fault;
pub mod gate;
pub mod gateway;
pub mod kubernetes;
pub mod loki;
pub mod profile;
pub mod record;
mod serve;
pub mod telegram;
pub mod time;
pub mod truth;
pub mod upstream;
pub mod world;
