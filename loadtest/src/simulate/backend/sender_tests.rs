//! Which command is due, and to whom.

use std::collections::HashMap;

use super::*;

fn sender(devices: Range<u32>, lanes: u32, rate_per_s: f64) -> Sender {
    Sender {
        qos: 1,
        promise: Promise {
            receivers: 1,
            qos: 1,
        },
        rate_per_s,
        payload: PayloadSize::Fixed(40),
        lanes,
        first: devices.start,
        next_seq: vec![0; devices.len()],
        present: Present::new(devices, lanes),
        dice: Dice::new(1, 1),
        pacings: VecDeque::new(),
        skipped: 0,
    }
}

fn all(sender: &mut Sender) -> Vec<(u32, Command)> {
    let lanes = 0..sender.lanes;
    let of = |lane| {
        let commands = std::iter::from_fn(|| sender.next(lane)).collect::<Vec<_>>();
        commands.into_iter().map(move |command| (lane, command))
    };
    lanes.flat_map(of).collect()
}

#[test]
fn the_rate_is_kept_and_each_device_belongs_to_one_lane() {
    let mut sender = sender(100..110, 3, 1_000.0);
    (100..110).for_each(|device| sender.presence(device, true));
    sender.begin(2.0, 5_000_000);
    sender.advance(6_000_000);
    let commands = all(&mut sender);
    assert_eq!(commands.len(), 2_000);
    let mut seqs: HashMap<u32, u32> = HashMap::new();
    for (lane, command) in commands {
        assert_eq!((command.device - 100) % 3, lane);
        assert_eq!(sender.lane_of(command.device), lane);
        assert!(sender.devices().contains(&command.device));
        assert!((5_000_000..=6_000_000).contains(&command.due_us));
        let seq = seqs.entry(command.device).or_default();
        assert_eq!(command.seq, *seq);
        *seq += 1;
    }
    assert!(
        seqs.len() == 10 && seqs.values().all(|count| (100..320).contains(count)),
        "{seqs:?}"
    );
}

#[test]
fn what_cannot_leave_keeps_its_time_and_outlives_its_phase() {
    let mut sender = sender(0..1, 1, 10.0);
    sender.presence(0, true);
    sender.begin(1.0, 0);
    sender.advance(250_000);
    assert_eq!(sender.next(0).map(|command| command.due_us), Some(100_000));
    sender.end(500_000);
    sender.begin(1.0, 500_000);
    sender.end(600_000);
    sender.advance(9_000_000);
    let dues: Vec<_> = all(&mut sender)
        .iter()
        .map(|(_, command)| command.due_us)
        .collect();
    assert_eq!(dues, [200_000, 300_000, 400_000, 500_000, 600_000]);
    assert!(sender.is_active());
    sender.advance(9_000_001);
    assert!(!sender.is_active());
}

#[test]
fn without_devices_nothing_is_sent_and_nothing_piles_up() {
    let mut sender = sender(0..4, 2, 100.0);
    sender.presence(1, true);
    sender.begin(1.0, 0);
    sender.advance(1_000_000);
    let commands = all(&mut sender);
    assert!(commands.len() == 50 && commands.iter().all(|(_, command)| command.device == 1));
    assert_eq!(sender.skipped(), 50, "those of the other lane");
    sender.presence(0, true);
    assert_eq!(all(&mut sender), []);
    sender.end(1_000_000);
    sender.advance(1_000_000);
    assert!(!sender.is_active());
}

#[test]
fn a_phase_without_commands_is_none() {
    let mut sender = sender(0..1, 1, 10.0);
    sender.begin(0.0, 0);
    assert!(!sender.is_active());
}

#[test]
fn who_is_there_agrees_with_a_set() {
    let mut present = Present::new(10..30, 3);
    let mut set = std::collections::BTreeSet::new();
    let mut dice = Dice::new(3, 3);
    for _ in 0..5_000 {
        let (device, there) = (8 + dice.below(24) as u32, dice.below(2) == 0);
        present.set(device, there);
        if there && (10..30).contains(&device) {
            set.insert(device);
        } else {
            set.remove(&device);
        }
        let mut known: Vec<u32> = present.lanes.iter().flatten().copied().collect();
        known.sort_unstable();
        assert!(known.iter().eq(set.iter()));
        for lane in 0..3_u32 {
            if !present.is_empty(lane) {
                let picked = present.pick(lane, &mut dice);
                assert!(set.contains(&picked) && (picked - 10) % 3 == lane);
            }
        }
    }
}
