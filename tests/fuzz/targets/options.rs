//! Runtime options as TOML, the way containerd's CRI plugin sends them.

#![no_main]

use gam_manager::options::Named;
use gam_protos::any::pack;
use gam_protos::runtimeoptions::Options;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|toml: &[u8]| {
    let mut message = Options::new();
    message.config_body = toml.to_vec();
    let any = pack(&message).expect("options can be packed");
    match Named::from_any(&any) {
        Ok(_) => assert!(std::str::from_utf8(toml).is_ok()),
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
