//! The order in which commands run: plain data, without time and tasks.

use std::collections::{BTreeMap, VecDeque};

use super::Class;
use crate::tenant::Tenant;

/// How many commands a tenant may have at work in all, those that are overdue among them, for each place.
const OVERDUE: usize = 4;
/// Among how many admissions another tenant's tells that a tenant is not alone.
pub(super) const RECENT: usize = 16;
/// After how many creates in a row a tenant's exec has its turn.
const MAKES: usize = 3;

/// What a tenant has at work and waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Whose it is.
    pub tenant: Tenant,
    /// Commands that have a place.
    pub running: usize,
    /// Commands that take so long that they have none any more.
    pub overdue: usize,
    /// Commands that wait.
    pub waiting: usize,
}

/// A place for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One for any command.
    Any,
    /// One that only a kill or delete is given.
    End,
    /// One that only a tenant is given that has nothing at work.
    First,
}

/// How many places of each kind there are, or are free.
#[derive(Clone, Copy)]
struct Places {
    any: usize,
    end: usize,
    first: usize,
}

impl Places {
    fn of(&mut self, place: Place) -> &mut usize {
        match place {
            Place::Any => &mut self.any,
            Place::End => &mut self.end,
            Place::First => &mut self.first,
        }
    }
}

/// Who waits, `T` for each, and how many are at work.
pub(super) struct Queue<T> {
    /// How many places there are for all.
    places: usize,
    free: Places,
    /// Whose the last admissions were.
    recent: VecDeque<Tenant>,
    /// How many commands a tenant may have at work, kills and deletes aside.
    most: usize,
    /// Admissions so far.
    clock: u64,
    tenants: BTreeMap<Tenant, Line<T>>,
}

struct Line<T> {
    running: usize,
    overdue: usize,
    /// When it was served last, by the queue's clock.
    served: u64,
    /// Creates since the last exec.
    makes: usize,
    waiting: [VecDeque<T>; 4],
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { running: 0, overdue: 0, served: 0, makes: 0, waiting: Default::default() }
    }
}

impl<T> Line<T> {
    fn of(&mut self, class: Class) -> &mut VecDeque<T> {
        let [end, go_on, make, exec] = &mut self.waiting;
        match class {
            Class::End => end,
            Class::GoOn => go_on,
            Class::Make => make,
            Class::Exec => exec,
        }
    }

    fn waits(&self, class: Class) -> bool {
        let [end, go_on, make, exec] = &self.waiting;
        !match class {
            Class::End => end,
            Class::GoOn => go_on,
            Class::Make => make,
            Class::Exec => exec,
        }
        .is_empty()
    }

    /// Its commands that have not ended, with a place or without.
    fn at_work(&self) -> usize {
        self.running.saturating_add(self.overdue)
    }

    fn is_empty(&self) -> bool {
        self.at_work() == 0 && self.waiting.iter().all(VecDeque::is_empty)
    }

    /// Which of its commands would run next in such a place, where it may have `share` of the places and `most` at work.
    fn candidate(&self, place: Place, share: usize, most: usize) -> Option<Class> {
        if place == Place::First && self.at_work() > 0 {
            return None;
        }
        if self.waits(Class::End) {
            return Some(Class::End);
        }
        if place == Place::End || (place == Place::Any && self.running >= share) {
            return None;
        }
        if self.at_work() >= most {
            return None;
        }
        let first = Class::ALL.into_iter().find(|class| self.waits(*class))?;
        let exec_is_due = self.makes >= MAKES && self.waits(Class::Exec);
        Some(if first == Class::Make && exec_is_due { Class::Exec } else { first })
    }
}

impl<T> Queue<T> {
    pub(super) fn new(places: usize) -> Self {
        let places = places.max(1);
        let free = Places { any: places, end: places.div_ceil(2), first: places.div_ceil(2) };
        let recent = VecDeque::with_capacity(RECENT);
        Self {
            places,
            free,
            recent,
            most: places.saturating_mul(OVERDUE),
            clock: 0,
            tenants: BTreeMap::new(),
        }
    }

    /// Somebody wants to run a command.
    pub(super) fn wait(&mut self, tenant: &Tenant, class: Class, waiter: T) {
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.clone(), Line::default());
        }
        if let Some(line) = self.tenants.get_mut(tenant) {
            line.of(class).push_back(waiter);
        }
    }

    /// Admits whose turn it is; none if there is no place, or nobody for it.
    pub(super) fn next(&mut self) -> Option<(Tenant, Place, T)> {
        let places = [Place::Any, Place::End, Place::First];
        places.into_iter().find_map(|place| self.give(place))
    }

    /// Gives a place, if it is free, to whose turn it is.
    fn give(&mut self, place: Place) -> Option<(Tenant, Place, T)> {
        let left = self.free.of(place).checked_sub(1)?;
        let (tenant, class) = self
            .tenants
            .iter()
            .filter_map(|(tenant, line)| {
                Some((tenant, line, line.candidate(place, self.share(tenant), self.most)?))
            })
            .min_by_key(|(_, line, _)| (line.at_work(), line.served))
            .map(|(tenant, _, class)| (tenant.clone(), class))?;
        let line = self.tenants.get_mut(&tenant)?;
        let waiter = line.of(class).pop_front()?;
        self.clock = self.clock.saturating_add(1);
        line.running = line.running.saturating_add(1);
        line.served = self.clock;
        match class {
            Class::Make => line.makes = line.makes.saturating_add(1),
            Class::Exec => line.makes = 0,
            Class::End | Class::GoOn => {}
        }
        *self.free.of(place) = left;
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(tenant.clone());
        Some((tenant, place, waiter))
    }

    /// How many of the places for all a tenant may have: all of them, unless others were served lately too. Then it leaves
    /// one, and with it a core, to those, and to whoever asks and runs nothing.
    fn share(&self, tenant: &Tenant) -> usize {
        if self.recent.iter().all(|served| served == tenant) {
            return self.places;
        }
        self.places.saturating_sub(1).max(1)
    }

    /// A command has ended that had a place.
    pub(super) fn ended(&mut self, tenant: &Tenant, place: Place) {
        self.vacate(place);
        self.change(tenant, |line| line.running = line.running.saturating_sub(1));
    }

    /// A command loses its place and goes on.
    pub(super) fn overdue(&mut self, tenant: &Tenant, place: Place) {
        self.vacate(place);
        self.change(tenant, |line| {
            line.running = line.running.saturating_sub(1);
            line.overdue = line.overdue.saturating_add(1);
        });
    }

    /// A command has ended that had lost its place.
    pub(super) fn overdue_ended(&mut self, tenant: &Tenant) {
        self.change(tenant, |line| line.overdue = line.overdue.saturating_sub(1));
    }

    fn vacate(&mut self, place: Place) {
        let free = self.free.of(place);
        *free = free.saturating_add(1);
    }

    fn change(&mut self, tenant: &Tenant, change: impl FnOnce(&mut Line<T>)) {
        let Some(line) = self.tenants.get_mut(tenant) else { return };
        change(line);
        if line.is_empty() {
            self.tenants.remove(tenant);
        }
    }

    pub(super) fn shares(&self) -> Vec<Share> {
        let share = |(tenant, line): (&Tenant, &Line<T>)| Share {
            tenant: tenant.clone(),
            running: line.running,
            overdue: line.overdue,
            waiting: line.waiting.iter().map(VecDeque::len).sum(),
        };
        self.tenants.iter().map(share).collect()
    }
}
