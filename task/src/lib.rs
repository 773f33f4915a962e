//! One container's life, without ttrpc, HTTP or groups.
