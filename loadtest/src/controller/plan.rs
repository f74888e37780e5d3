//! How many workers there are, where, and which devices each has.

use std::ops::Range;

use crate::Error;
use crate::limits::{DEVICES_PER_CORE, SPARE_DESCRIPTORS, WORKERS_MAX};

/// A machine that can have workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its cores.
    pub(crate) cores: u32,
    /// Descriptors that each process there may have.
    pub(crate) descriptors: u64,
}

/// A worker that holds devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    /// Which of the places.
    pub(crate) place: usize,
    /// Its devices.
    pub(crate) devices: Range<u32>,
}

/// Spreads the devices: over the places by their cores, within a place evenly over as few workers as its descriptors allow
/// and as many as have something to do for a core each.
pub(crate) fn shares(devices: u32, places: &[Place]) -> Result<Vec<Share>, Error> {
    let cores: u64 = places.iter().map(|place| u64::from(place.cores)).sum();
    let mut all = Vec::new();
    let mut cores_before = 0;
    let mut begin = 0;
    for (index, place) in places.iter().enumerate() {
        cores_before += u64::from(place.cores);
        let end = part(devices, cores_before, cores);
        let workers = workers(end - begin, *place)?;
        for worker in 0..workers {
            let within = |n| begin + part(end - begin, n, workers);
            all.push(Share {
                place: index,
                devices: within(worker)..within(worker + 1),
            });
        }
        begin = end;
    }
    if all.len() >= WORKERS_MAX {
        return Err(Error::Arguments(format!(
            "{devices} devices need {} worker processes, {WORKERS_MAX} are the limit; raise the hard limit of open files (ulimit -Hn)",
            all.len() + 1
        )));
    }
    Ok(all)
}

/// `n / of` of the devices, rounded down.
fn part(devices: u32, n: u64, of: u64) -> u32 {
    u32::try_from(u64::from(devices) * n / of).expect("no more than there are devices")
}

/// How many workers so many devices need at a place.
fn workers(devices: u32, place: Place) -> Result<u64, Error> {
    let devices = u64::from(devices);
    if place.descriptors <= SPARE_DESCRIPTORS {
        return Err(Error::Descriptors {
            needed: SPARE_DESCRIPTORS + devices.min(1),
            allowed: place.descriptors,
        });
    }
    let held = devices.div_ceil(place.descriptors - SPARE_DESCRIPTORS);
    let busy = devices.div_ceil(u64::from(DEVICES_PER_CORE));
    Ok(held.max(busy.min(u64::from(place.cores))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = Place {
        cores: 2,
        descriptors: 20_000,
    };

    fn check(devices: u32, shares: &[Share]) {
        let mut next = 0;
        for share in shares {
            assert_eq!(share.devices.start, next, "in one row");
            next = share.devices.end;
        }
        assert_eq!(next, devices, "all of them");
        let sizes = shares.iter().map(|share| share.devices.len());
        let (least, most) = (sizes.clone().min(), sizes.max());
        assert!(most <= least.map(|least| least + 1), "{least:?} {most:?}");
    }

    #[test]
    fn few_devices_have_one_worker_and_a_million_as_few_as_descriptors_allow() {
        for (devices, workers) in [(1, 1), (200, 1), (10_000, 1), (10_001, 2), (100_000, 6)] {
            let shares = shares(devices, &[HERE]).expect("enough descriptors");
            check(devices, &shares);
            assert_eq!(shares.len(), workers, "{devices} devices");
        }
        let million = shares(1_000_000, &[HERE]).expect("enough descriptors");
        check(1_000_000, &million);
        assert_eq!(million.len(), 51);
    }

    #[test]
    fn no_devices_have_no_worker() {
        assert_eq!(shares(0, &[HERE]).expect("nothing is needed"), []);
    }

    #[test]
    fn machines_with_more_cores_have_more_devices() {
        let large = Place {
            cores: 6,
            descriptors: 1_000_000,
        };
        let shares = shares(80_000, &[HERE, large]).expect("enough descriptors");
        let on = |place| {
            let there = shares.iter().filter(|share| share.place == place);
            there.map(|share| share.devices.len()).sum::<usize>()
        };
        assert_eq!((on(0), on(1)), (20_000, 60_000));
        assert_eq!(shares.len(), 2 + 6);
    }

    #[test]
    fn too_few_descriptors_are_an_error() {
        let narrow = Place {
            cores: 2,
            descriptors: 64,
        };
        let error = shares(10, &[narrow]).expect_err("not one is left");
        assert!(
            error
                .to_string()
                .contains("65 file descriptors needed, 64 allowed")
        );
        let error = shares(
            1_000_000,
            &[Place {
                descriptors: 128,
                ..HERE
            }],
        )
        .expect_err("15,625 workers");
        assert!(
            error.to_string().contains("15626 worker processes"),
            "{error}"
        );
    }
}
