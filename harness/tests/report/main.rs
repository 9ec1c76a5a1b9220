//! The report formats as a whole: golden files, laws that hold for any result, the committed schema.

mod any_result;
mod fixture;
mod golden;
mod laws;
mod schema;
