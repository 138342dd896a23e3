//! What runs later: the worker's jobs and the expiry run. Each step is safe to repeat.

mod dismantle;
mod erase;
mod expire;
mod jobs;
