//! What any cluster does.

mod metadata;
mod objects;
mod ownership;
mod watches;
