//! gam.
