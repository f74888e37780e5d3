//! Random schedules of everything that happens to clients, records, loads and questions.

use super::*;

/// What happens next to a client.
#[derive(Debug, Clone, Copy)]
enum Step {
    Connect(bool, [bool; GROUPS]),
    Join(usize),
    Subscribe(usize, u8, u32),
    Unsubscribe(usize),
    Hear,
    End(bool),
    Answer,
    Late,
    Write(u64),
    Ask,
    AnswerQuestion(usize),
    LoseQuestions,
    Damage(Damage),
    Wipe,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let filter = || 0..FILTERS;
    let options: Vec<_> = (0..=u8::MAX)
        .filter(|byte| SubscribeOptions::from_u8(*byte).is_some())
        .collect();
    let damage = prop_oneof![
        Just(Damage::Lose),
        filter().prop_map(Damage::LoseFilter),
        filter().prop_map(Damage::Add),
        Just(Damage::AddNonsense),
        Just(Damage::Repeat),
        filter().prop_map(Damage::Change),
    ];
    let step = prop_oneof![
        4 => (prop::bool::weighted(0.2), any::<[bool; GROUPS]>())
            .prop_map(|(clean, late)| Step::Connect(clean, late)),
        2 => (1..GROUPS).prop_map(Step::Join),
        5 => (filter(), prop::sample::select(options), 0..3_u32)
            .prop_map(|(n, options, id)| Step::Subscribe(n, options, id)),
        2 => filter().prop_map(Step::Unsubscribe),
        4 => Just(Step::Hear),
        2 => prop::bool::weighted(0.2).prop_map(Step::End),
        4 => Just(Step::Answer),
        1 => Just(Step::Late),
        3 => (0..1_500_u64).prop_map(Step::Write),
        4 => Just(Step::Ask),
        4 => (1..3_usize).prop_map(Step::AnswerQuestion),
        1 => Just(Step::LoseQuestions),
        3 => damage.prop_map(Step::Damage),
        1 => Just(Step::Wipe),
    ];
    prop::collection::vec((0..2_usize, step), 1..100)
}

fn play(world: &mut World, n: usize, step: Step) {
    match step {
        Step::Connect(clean, late) => world.connect(n, clean, late),
        Step::Join(group) => world.join(n, group),
        Step::Subscribe(filter, options, id) => world.subscribe(n, filter, options, id),
        Step::Unsubscribe(filter) => world.unsubscribe(n, filter),
        Step::Hear => world.hear(n),
        Step::End(session) => world.end(n, session),
        Step::Answer => {
            // As the shard does: a load sees what was written before.
            world.bench.write_after(0);
            world.bench.answer_all();
        }
        Step::Late => {
            if let Some(load) = world.bench.load() {
                world.bench.late(load);
            }
        }
        Step::Write(ms) => world.bench.write_after(ms),
        Step::Ask => world.ask(),
        Step::AnswerQuestion(most) => world.answer_question(most),
        Step::LoseQuestions => lose_questions(world),
        Step::Damage(damage) => world.damage(n, damage),
        Step::Wipe => {
            world.bench.stored.clear();
            world.bench.cache.rewrite_all();
        }
    }
}

/// The groups forget who has asked: a home ends the connection, another group lets it in anew.
fn lose_questions(world: &mut World) {
    for question in std::mem::take(&mut world.questions) {
        let n = question.handle.index as usize;
        let group = usize::from(question.group.0);
        if question.handle != world.handle(n) {
            continue;
        }
        if group == HOME {
            world.end(n, false);
        } else {
            world.join(n, group);
        }
    }
}

proptest! {
    /// Whatever of a record is lost, stale or damaged, some time after a resume it is what the groups hold.
    #[test]
    fn after_a_resume_a_record_is_what_the_groups_hold(steps in steps()) {
        let mut world = World::new();
        for (n, step) in steps {
            play(&mut world, n, step);
        }
        for n in 0..2 {
            world.hear(n);
            world.end(n, false);
        }
        world.quiet();
        for n in 0..2 {
            if world.clients[n].exists {
                world.connect(n, false, NONE_LATE);
            }
        }
        world.quiet();
        for n in 0..2 {
            if world.clients[n].exists {
                prop_assert_eq!(world.recorded(n), world.clients[n].filters());
            }
        }
        let cache = &world.bench.cache;
        prop_assert_eq!((cache.unloaded_bytes, cache.mendings, cache.questions_open), (0, 0, 0));
        prop_assert_eq!(world.bench.counters.store_writes_dropped.get(), 0);
        prop_assert_eq!(world.bench.counters.store_rebuilds_given_up.get(), 0);
    }

    /// A record that nobody damages is never taken for a wrong one, as long as connections hear what groups have done.
    #[test]
    fn a_record_that_is_right_is_left_alone(steps in steps()) {
        let mut world = World::new();
        for (n, step) in steps {
            if matches!(step, Step::Damage(_) | Step::Wipe) {
                continue;
            }
            if matches!(step, Step::Connect(..) | Step::End(_) | Step::Join(_)) {
                world.hear(n);
            }
            play(&mut world, n, step);
        }
        world.quiet();
        prop_assert_eq!((world.asked, world.rebuilt()), (0, 0));
    }
}
