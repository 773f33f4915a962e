//! The order that events must keep, whatever happens (BEHAVIOUR section 0).

use std::collections::BTreeMap;

use super::event::{Event, Kind};

#[derive(Default)]
struct Exec {
    added: bool,
    started: bool,
    exited: bool,
}

#[derive(Default)]
struct Life {
    created: bool,
    started: bool,
    exited: bool,
    deleted: bool,
    execs: BTreeMap<String, Exec>,
}

impl Life {
    fn step(&mut self, event: &Event, rest: bool) -> Result<(), &'static str> {
        // An id may be used again once it was deleted, or its shim was killed.
        if (self.deleted || !rest) && event.kind == Kind::Create {
            *self = Self::default();
        }
        if self.deleted {
            return Err("comes after TaskDelete");
        }
        if !self.created && event.kind != Kind::Create {
            return Err("comes before TaskCreate");
        }
        if !event.exec.is_empty() {
            return self.step_exec(event);
        }
        match event.kind {
            Kind::Create if self.created => Err("is the second TaskCreate"),
            Kind::Create => {
                self.created = true;
                Ok(())
            }
            Kind::Start if self.started => Err("is the second TaskStart"),
            Kind::Start if self.exited => Err("comes after TaskExit"),
            Kind::Start => {
                self.started = true;
                Ok(())
            }
            Kind::Oom if self.exited => Err("comes after TaskExit"),
            Kind::Exit if self.exited => Err("is the second TaskExit"),
            Kind::Exit if self.execs.values().any(|exec| exec.started && !exec.exited) => {
                Err("comes before the TaskExit of a started exec")
            }
            Kind::Exit => {
                self.exited = true;
                Ok(())
            }
            Kind::Delete if self.started && !self.exited => Err("comes before TaskExit"),
            Kind::Delete => {
                self.deleted = true;
                Ok(())
            }
            Kind::Paused | Kind::Resumed if self.exited => Err("comes after TaskExit"),
            _ => Ok(()),
        }
    }

    fn step_exec(&mut self, event: &Event) -> Result<(), &'static str> {
        let exec = self.execs.entry(event.exec.clone()).or_default();
        match event.kind {
            Kind::ExecAdded if exec.started && !exec.exited => Err("is added while it runs"),
            Kind::ExecAdded => {
                *exec = Exec { added: true, ..Exec::default() };
                Ok(())
            }
            Kind::ExecStarted if self.exited => Err("starts after init's TaskExit"),
            Kind::ExecStarted if !exec.added => Err("starts before it was added"),
            Kind::ExecStarted if exec.started => Err("starts twice"),
            Kind::ExecStarted => {
                exec.started = true;
                Ok(())
            }
            Kind::Exit if self.exited => Err("exits after init's TaskExit"),
            Kind::Exit if !exec.started => Err("exits before it started"),
            Kind::Exit if exec.exited => Err("exits twice"),
            Kind::Exit => {
                exec.exited = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What is still missing once all is quiet.
    fn missing(&self) -> Option<String> {
        if let Some((id, _)) = self.execs.iter().find(|(_, exec)| exec.started && !exec.exited) {
            return Some(format!("exec {id} has no TaskExit"));
        }
        (self.started && !self.exited).then(|| "no TaskExit".to_owned())
    }
}

/// What is wrong with the order of `events`, and what is missing now that all is at rest. Without `rest` a shim was
/// killed: nothing is missed, and an id may begin anew.
#[must_use]
pub fn violations(events: &[Event], rest: bool) -> Vec<String> {
    let mut lives: BTreeMap<(String, String), Life> = BTreeMap::new();
    let mut found = Vec::new();
    for event in events.iter().filter(|event| event.kind != Kind::Other) {
        let life = lives.entry((event.namespace.clone(), event.container.clone())).or_default();
        if let Err(wrong) = life.step(event, rest) {
            found.push(format!("{:?} of {}/{} {wrong}", event.kind, event.container, event.exec));
        }
    }
    if rest {
        let missing =
            lives.iter().filter_map(|((_, id), life)| life.missing().map(|what| format!("{id}: {what}")));
        found.extend(missing);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn events(list: &[(Kind, &str)]) -> Vec<Event> {
        let make = |(kind, exec): &(Kind, &str)| Event {
            kind: *kind,
            namespace: "n".into(),
            container: "c".into(),
            exec: (*exec).into(),
            pid: 1,
            status: 0,
            at: Instant::now(),
        };
        list.iter().map(make).collect()
    }

    #[test]
    fn a_whole_life_is_in_order() {
        use Kind::{Create, Delete, ExecAdded, ExecStarted, Exit, Oom, Start};
        let list = [
            (Create, ""),
            (Start, ""),
            (ExecAdded, "e"),
            (ExecStarted, "e"),
            (Exit, "e"),
            (Oom, ""),
            (Exit, ""),
            (Delete, ""),
            (Create, ""),
            (Delete, ""),
        ];
        assert_eq!(violations(&events(&list), true), Vec::<String>::new());
    }

    #[test]
    fn what_is_out_of_order_is_found() {
        use Kind::{Create, ExecAdded, ExecStarted, Exit, Start};
        let bad: [&[(Kind, &str)]; 6] = [
            &[(Create, ""), (Exit, ""), (Start, "")],
            &[(Create, ""), (Start, ""), (Exit, ""), (Exit, "")],
            &[(Create, ""), (Start, "")],
            &[(Create, ""), (Start, ""), (ExecAdded, "e"), (ExecStarted, "e"), (Exit, ""), (Exit, "e")],
            &[(Create, ""), (Start, ""), (ExecAdded, "e"), (Exit, "e"), (ExecStarted, "e"), (Exit, "")],
            &[(Start, "")],
        ];
        for list in bad {
            assert_ne!(violations(&events(list), true), Vec::<String>::new(), "{list:?}");
        }
    }
}
