//! x

gam_tests::tests![];
