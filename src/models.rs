//! Base models: their networks, files, tokenizers and chat templates.

pub mod llama;
