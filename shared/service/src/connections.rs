//! A connection's life: it begins, it becomes active. [`closer`](crate::closer) has how it ends.

pub(crate) mod activate;
pub(crate) mod connect;
pub(crate) mod sessions;
