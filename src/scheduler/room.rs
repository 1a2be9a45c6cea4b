//! How many rows of a servable may wait: a bound that holds exactly however many threads reserve at once, counted also per
//! priority level, and shared fairly among tenants where those are told apart. Reserved by lanes, given back by [`Slot`].

use std::collections::HashMap;

use super::sync::{
    Arc, Mutex,
    atomic::{
        AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
};

/// The tenant of all that come when too many are told apart already.
pub(crate) const OTHERS: u64 = u64::MAX;

/// Told how many rows come and go.
pub(crate) trait Watcher {
    /// Rows wait.
    fn came(&self, rows: usize);
    /// Rows wait no more.
    fn went(&self, rows: usize);
    /// So many tenants have rows that wait.
    fn tenants(&self, count: usize);
}

/// The bound of one servable.
#[derive(Debug)]
pub(crate) struct Room<W> {
    limit: usize,
    rows: AtomicUsize,
    /// Rows by level, where there are several.
    levels: Box<[AtomicUsize]>,
    tenants: Mutex<HashMap<u64, usize>>,
    most_tenants: usize,
    watcher: W,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Too many rows wait.
    Queue,
    /// The tenant's share is used up.
    Share,
}

impl<W: Watcher> Room<W> {
    /// Room for `limit` rows. `levels` priority levels are counted if there are more than one; at most `most_tenants` tenants
    /// are told apart.
    pub(crate) fn new(limit: usize, levels: usize, most_tenants: usize, watcher: W) -> Self {
        let levels = if levels > 1 { levels } else { 0 };
        Self {
            limit,
            rows: AtomicUsize::new(0),
            levels: (0..levels).map(|_| AtomicUsize::new(0)).collect(),
            tenants: Mutex::new(HashMap::new()),
            most_tenants: most_tenants.max(1),
            watcher,
        }
    }

    /// Rows that wait.
    pub(crate) fn rows(&self) -> usize {
        self.rows.load(Relaxed)
    }

    /// Rows that wait in a level and in more urgent ones.
    pub(crate) fn rows_up_to(&self, level: u32) -> usize {
        if self.levels.is_empty() {
            return self.rows();
        }
        self.levels.iter().take(level as usize).map(|rows| rows.load(Relaxed)).sum()
    }

    /// Reserves room; a request larger than all of it is let in when nothing else waits. The most urgent of several levels may
    /// use all of the room, the others seven eighths. A tenant other than 0 may use what is left when everybody who waits, and
    /// one more, gets the same.
    ///
    /// # Errors
    /// What is full.
    pub(crate) fn reserve(self: &Arc<Self>, rows: usize, level: u32, tenant: u64) -> Result<Slot<W>, Full> {
        let limit = if level <= 1 || self.levels.is_empty() { self.limit } else { self.limit - self.limit / 8 };
        let tenant = self.share(rows, tenant)?;
        let fits = |now: usize| (now == 0 || now + rows <= limit).then_some(now + rows);
        if self.rows.fetch_update(AcqRel, Acquire, fits).is_err() {
            self.unshare(rows, tenant);
            return Err(Full::Queue);
        }
        if let Some(level) = self.level(level) {
            level.fetch_add(rows, Relaxed);
        }
        self.watcher.came(rows);
        Ok(Slot { room: Arc::clone(self), rows, level, tenant })
    }

    fn level(&self, level: u32) -> Option<&AtomicUsize> {
        self.levels.get((level.max(1) - 1) as usize)
    }

    /// Books rows under a tenant; says under which.
    fn share(&self, rows: usize, tenant: u64) -> Result<u64, Full> {
        if tenant == 0 {
            return Ok(0);
        }
        let mut tenants = self.tenants.lock();
        let tenant = if tenants.contains_key(&tenant) || tenants.len() < self.most_tenants { tenant } else { OTHERS };
        let (known, count) = (tenants.get(&tenant).copied(), tenants.len());
        let share = self.limit / (count + usize::from(known.is_none()) + 1);
        if known.is_some_and(|known| known + rows > share) {
            return Err(Full::Share);
        }
        *tenants.entry(tenant).or_insert(0) += rows;
        self.watcher.tenants(tenants.len());
        Ok(tenant)
    }

    fn unshare(&self, rows: usize, tenant: u64) {
        if tenant == 0 {
            return;
        }
        let mut tenants = self.tenants.lock();
        if let Some(booked) = tenants.get_mut(&tenant) {
            *booked = booked.saturating_sub(rows);
            if *booked == 0 {
                tenants.remove(&tenant);
            }
        }
        self.watcher.tenants(tenants.len());
    }
}

/// Rows that count against a room until this is dropped: when they are taken, refused or given up.
#[derive(Debug)]
pub(crate) struct Slot<W: Watcher> {
    room: Arc<Room<W>>,
    rows: usize,
    level: u32,
    tenant: u64,
}

impl<W: Watcher> Slot<W> {
    /// The priority level that they wait in.
    pub(crate) fn level(&self) -> u32 {
        self.level
    }

    /// Whose rows they count as.
    pub(crate) fn tenant(&self) -> u64 {
        self.tenant
    }

    /// Who is told how many rows come and go.
    pub(crate) fn watcher(&self) -> &W {
        &self.room.watcher
    }

    /// Splits off the part of `rows` rows.
    pub(crate) fn split(&mut self, rows: usize) -> Self {
        let rows = rows.min(self.rows);
        self.rows -= rows;
        Self { room: Arc::clone(&self.room), rows, level: self.level, tenant: self.tenant }
    }
}

impl<W: Watcher> Drop for Slot<W> {
    fn drop(&mut self) {
        if self.rows == 0 {
            return;
        }
        self.room.rows.fetch_sub(self.rows, AcqRel);
        if let Some(level) = self.room.level(self.level) {
            level.fetch_sub(self.rows, Relaxed);
        }
        self.room.unshare(self.rows, self.tenant);
        self.room.watcher.went(self.rows);
    }
}
