//! What any cluster does.

mod access;
mod collection;
mod cron_jobs;
mod jobs;
mod metadata;
mod nodes;
mod objects;
mod ownership;
mod watches;
