//! `harness gate`: a fault gate as a program of its own.

use mocks::egress::{EgressGate, EgressOptions};
use serde_json::json;

use super::args::GateArguments;
use super::exit::ExitStatus;
use super::printer;
use crate::run::Stop;

pub(super) fn gate(arguments: GateArguments) -> ExitStatus {
    let GateArguments { listen, to, control, max_hold } = arguments;
    let served = super::on_runtime(async move {
        let stop = Stop::default();
        stop.on_signals()?;
        let gate = EgressGate::start(EgressOptions { listen, to, control, max_hold: max_hold.0 }).await?;
        printer::data(&format!("{}\n", json!({ "listen": gate.address(), "control": gate.control() })));
        stop.token().cancelled().await;
        gate.shutdown().await;
        Ok(())
    });
    match served {
        Ok(()) => ExitStatus::Pass,
        Err(error) => printer::usage_error(&format!("cannot start: {error}")),
    }
}
