//! One exec of a container.

use containerd_client::services::v1::ExecProcessRequest;
use containerd_client::types::v1::Process;
use serde_json::Value;

use crate::case::{Container, Stdio};
use crate::client::{Answer, Deleted, Exit};
use crate::spec::{process, process_any, sh};

/// An exec to be.
pub struct ExecBuilder<'c> {
    container: &'c Container,
    id: String,
    streams: [bool; 3],
    terminal: bool,
    /// Its OCI process, to be changed at will.
    pub process: Value,
}

impl<'c> ExecBuilder<'c> {
    pub(crate) fn new(container: &'c Container, id: &str, script: &str) -> Self {
        let process = process(&sh(script), false);
        Self { container, id: id.into(), streams: [false, true, true], terminal: false, process }
    }

    /// With another id.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = id.into();
        self
    }

    /// With stdin too.
    #[must_use]
    pub fn stdin(mut self) -> Self {
        self.streams[0] = true;
        self
    }

    /// With these streams: stdin, stdout, stderr.
    #[must_use]
    pub fn streams(mut self, streams: [bool; 3]) -> Self {
        self.streams = streams;
        self
    }

    /// With a terminal, and stdin.
    #[must_use]
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self.process["terminal"] = true.into();
        self.streams = [true, true, false];
        self
    }

    /// Adds it.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn try_add(self) -> Answer<Exec<'c>> {
        let Self { container, id, streams, terminal, process } = self;
        let name = format!("{}-{}-{id}", container.namespace, container.id);
        let io = Stdio::make(&container.daemon, &name, streams);
        let message = ExecProcessRequest {
            container_id: container.id.clone(),
            exec_id: id.clone(),
            stdin: io.paths[0].clone(),
            stdout: io.paths[1].clone(),
            stderr: io.paths[2].clone(),
            terminal,
            spec: Some(process_any(&process)),
        };
        container.client().exec(&container.namespace, message)?;
        Ok(Exec { container, id, io })
    }

    /// Adds it.
    ///
    /// # Panics
    /// Where it is refused.
    #[must_use]
    pub fn add(self) -> Exec<'c> {
        let (container, id) = (self.container, self.id.clone());
        self.try_add().unwrap_or_else(|error| panic!("adding exec {id} to {}: {error}", container.id))
    }

    /// Adds and starts it.
    ///
    /// # Panics
    /// Where either is refused.
    #[must_use]
    pub fn run(self) -> Exec<'c> {
        let exec = self.add();
        exec.start();
        exec
    }
}

/// An exec.
pub struct Exec<'c> {
    container: &'c Container,
    /// Its id.
    pub id: String,
    /// Its streams.
    pub io: Stdio,
}

impl Exec<'_> {
    /// Starts it; its pid.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn start(&self) -> u32 {
        self.try_start().unwrap_or_else(|error| panic!("starting exec {}: {error}", self.id))
    }

    /// Asks to start it.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn try_start(&self) -> Answer<u32> {
        self.container.client().start(&self.container.namespace, &self.container.id, &self.id)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// Where Wait fails.
    pub fn wait(&self) -> Exit {
        self.try_wait().unwrap_or_else(|error| panic!("waiting for exec {}: {error}", self.id))
    }

    /// Asks for its end.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn try_wait(&self) -> Answer<Exit> {
        self.container.client().wait(&self.container.namespace, &self.container.id, &self.id)
    }

    /// Asks to signal it.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn try_kill(&self, signal: u32) -> Answer<()> {
        self.container.client().kill(&self.container.namespace, &self.container.id, &self.id, signal, false)
    }

    /// Deletes it.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn delete(&self) -> Deleted {
        self.try_delete().unwrap_or_else(|error| panic!("deleting exec {}: {error}", self.id))
    }

    /// Asks to delete it.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn try_delete(&self) -> Answer<Deleted> {
        self.container.client().delete_exec(&self.container.namespace, &self.container.id, &self.id)
    }

    /// What State says of it.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn try_state(&self) -> Answer<Process> {
        self.container.client().get(&self.container.namespace, &self.container.id, &self.id)
    }

    /// Tells the shim to close stdin, after closing the client's end.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn close_stdin(&mut self) {
        self.io.input().close();
        self.container
            .client()
            .close_stdin(&self.container.namespace, &self.container.id, &self.id)
            .unwrap_or_else(|error| panic!("closing stdin of exec {}: {error}", self.id));
    }

    /// Waits for its end and deletes it; its exit and what it wrote to stdout.
    ///
    /// # Panics
    /// Where any of it goes wrong.
    pub fn finish(self) -> (Exit, String) {
        let exit = self.wait();
        let deleted = self.delete();
        assert_eq!(deleted.exit, exit, "Delete and Wait of exec {} agree", self.id);
        (exit, self.io.stdout.as_ref().map(|out| out.text()).unwrap_or_default())
    }
}
