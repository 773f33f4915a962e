//! The metrics' thread: one thread and a runtime of its own, so that neither a scrape nor who scrapes slowly costs a
//! container anything.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio_util::sync::CancellationToken;

use super::Metrics;
use super::http::{self, Content, Limits};
use super::listener::{Address, Bound, Listener};
use super::node::{self, Node};
use crate::group::Group;

/// The stack of the thread, in bytes: a few pages of it are used.
const STACK: usize = 256 << 10;

/// A server at work. It ends, and its sockets' files go, when this is dropped.
pub struct Handle {
    address: Address,
    closing: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Where the group's own metrics are, with the port that the kernel picked if it was to.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.closing.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves `metrics` at the group's own socket, on a new thread; and at the address of `node` those of all groups, as soon as
/// no other manager does. The socket gets mode 0600 and takes the place of one that nobody listens at; its path, also with the
/// extension `new`, has to fit a socket's address of 107 bytes.
///
/// # Errors
/// Where the group's socket cannot be bound or the thread cannot be made. That the node's address cannot be bound is none.
pub fn serve(group: &Group, metrics: Arc<Metrics>, node: Option<(Address, Node)>) -> io::Result<Handle> {
    let own = Content::Group { name: group.name.as_str().into(), metrics };
    start(&Address::Unix(group.metrics_socket()), own, node, Limits::default())
}

/// Serves `own` at `address`, and the node.
pub(super) fn start(
    address: &Address,
    own: Content,
    node: Option<(Address, Node)>,
    limits: Limits,
) -> io::Result<Handle> {
    let bound = Bound::bind(address)?;
    let address = bound.address()?;
    let closing = CancellationToken::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        Listener::register(bound)?
    };
    let node = node.map(|(address, node)| (address, Arc::new(node)));
    let until = closing.clone();
    let thread = thread::Builder::new().name("gam-metrics".into()).stack_size(STACK).spawn(move || {
        let work = async {
            let group = http::accept(&listener, &own, limits);
            match node {
                Some((address, node)) => drop(tokio::join!(group, node::hold(&address, &node, limits))),
                None => group.await,
            }
        };
        // What is at work when this ends goes with the runtime.
        runtime.block_on(until.run_until_cancelled(work));
    })?;
    Ok(Handle { address, closing, thread: Some(thread) })
}
