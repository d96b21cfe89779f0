//! What real users' files do: for each kind of public report a small copy of its own making, and what is to come of it.

mod adapters;
mod bases;
mod look;
mod rows;
mod runs;
mod templates;
