//! The mock world.
