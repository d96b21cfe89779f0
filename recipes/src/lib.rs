//! Recipes: what a training run is to do, read strictly from TOML.
