//! The list of processors as a type: `(Counts, (Uniques, (Sessions, ())))`.
//!
//! A list that the compiler sees through: each event goes through one inlined chain of calls, and
//! a processor is added by naming it.

use std::any::{Any, TypeId};
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::processor::{Compiler, Context, Input, Processor, PropertyTable, Replaced};
use crate::{
    Definition, DefinitionError, HashKey, Identity, Map, Renames, Setup, SnapshotError, origin_hash,
};

/// A processor at work: one definition, one app, one partition.
pub struct Instance<P: Processor> {
    processor: P,
    definition: Definition,
    /// The number of its part in users' states; never used again for another.
    slot: u32,
    /// The version at which it began with nothing.
    start: u64,
    origin: u64,
    state: P::State,
}

/// An instance as it is saved.
#[derive(Serialize, Deserialize)]
pub struct SavedInstance {
    pub id: u64,
    slot: u32,
    start: i64,
    state: Vec<u8>,
}

/// What instances are built from.
pub struct Builder<'b> {
    pub setup: &'b Setup,
    pub app: &'b str,
    pub key: HashKey,
    pub properties: &'b mut PropertyTable,
    /// What is there already, by definition id.
    pub saved: Map<u64, SavedInstance>,
    pub topic: &'b str,
    pub partition: i32,
    /// The version at which an instance begins that is new.
    pub start: u64,
    pub next_slot: &'b mut u32,
}

/// A definition in force and the version at which its state began.
pub struct InForce<'i> {
    pub definition: &'i Definition,
    pub start: u64,
    pub origin: u64,
}

/// What the configuration needs to know of a kind of definition.
pub struct KindInfo {
    pub kind: &'static str,
    pub semantics: u32,
    pub is_single: bool,
    pub built_in: &'static [&'static str],
    /// From the keys as written to the definition with all its defaults.
    #[allow(clippy::type_complexity)]
    pub complete:
        fn(&str, serde_json::Map<String, serde_json::Value>) -> Result<serde_json::Value, serde_json::Error>,
}

/// The list of these processors, as a type; behind `rarely:` those that are not in every configuration ([`Rarely`]).
#[macro_export]
macro_rules! list {
    () => { () };
    (rarely: $($rest:ty),* $(,)?) => { $crate::Rarely<$crate::list!($($rest),*)> };
    ($first:ty, rarely: $($rest:tt)*) => { ($first, $crate::list!(rarely: $($rest)*)) };
    ($first:ty, $second:ty, $($rest:tt)+) => { ($first, $crate::list!($second, $($rest)+)) };
    ($first:ty $(, $rest:ty)* $(,)?) => { ($first, $crate::list!($($rest),*)) };
}

pub trait List: 'static {
    type Instances: Default + Send;
    type Parts: Default + Serialize + DeserializeOwned + Send;

    /// Every kind, in the order of the list.
    fn kinds(out: &mut Vec<KindInfo>);
    /// Whether nothing is counted.
    fn is_empty(all: &Self::Instances) -> bool;
    fn build(builder: &mut Builder<'_>) -> Result<Self::Instances, SnapshotError>;
    fn apply(
        all: &mut Self::Instances,
        parts: &mut Self::Parts,
        input: &Input<'_>,
        context: &mut Context<'_>,
    );
    /// The same of an event that is moved, for those that counted already when it came.
    fn apply_again(
        all: &mut Self::Instances,
        parts: &mut Self::Parts,
        input: &Input<'_>,
        context: &mut Context<'_>,
    );
    /// What an event makes of a user's parts alone: what is counted of all users stays as it is, and rows go where
    /// nobody looks.
    fn work_out(all: &Self::Instances, parts: &mut Self::Parts, input: &Input<'_>, context: &mut Context<'_>);
    /// A user is counted as `parts` say, and no longer as `before` says.
    fn replace(
        all: &mut Self::Instances,
        before: &mut Self::Parts,
        parts: &mut Self::Parts,
        replaced: &Replaced<'_>,
        context: &mut Context<'_>,
    );
    /// The instance of a processor of which there is one, and what it keeps of a user; none: it does not count.
    fn of<'l, Q: Processor + 'static>(
        all: &'l mut Self::Instances,
        parts: &'l mut Self::Parts,
    ) -> Option<(&'l mut Q::State, &'l mut Q::User)>;
    /// The same of a user's part alone; none: nothing was kept yet.
    fn part_of<'l, Q: Processor + 'static>(
        all: &Self::Instances,
        parts: &'l Self::Parts,
    ) -> Option<&'l Q::User>;
    /// Something of what is looked at first of a user's parts, wherever it lies.
    fn touch(parts: &Self::Parts) -> i64;
    fn settle(all: &mut Self::Instances, user: u64, parts: &mut Self::Parts, context: &mut Context<'_>);
    fn rest(all: &mut Self::Instances, user: u64, parts: &mut Self::Parts, context: &mut Context<'_>);
    /// How long behind the cutoff all is settled for every processor.
    fn settled_after_ms(all: &Self::Instances) -> i64;
    /// Of processors whose users owe rows, only where those have settled.
    fn flush(all: &mut Self::Instances, has_settled: bool, context: &mut Context<'_>);
    fn settles_before(all: &Self::Instances, context: &mut Context<'_>) -> bool;
    fn advance(all: &mut Self::Instances, context: &mut Context<'_>);
    /// Keeps what is kept of a user who was not seen for longer than the horizon; whether that is anything.
    fn remember(all: &Self::Instances, parts: &mut Self::Parts, cutoff: i64) -> bool;
    fn save(all: &Self::Instances, out: &mut Vec<SavedInstance>) -> Result<(), SnapshotError>;
    fn in_force<'i>(all: &'i Self::Instances, out: &mut Vec<InForce<'i>>);
    /// The states and beginnings of definitions that another partition counted; which slot of its users' parts is which
    /// of this one's.
    fn take_over(
        all: &mut Self::Instances,
        other: Self::Instances,
        renames: &Renames,
        slots: &mut Map<u32, u32>,
    );
    /// A user's parts for them.
    fn take_over_parts(
        all: &Self::Instances,
        parts: &mut Self::Parts,
        other: Self::Parts,
        renames: &Renames,
        slots: &Map<u32, u32>,
    );
}

impl List for () {
    type Instances = ();
    type Parts = ();

    fn kinds(_: &mut Vec<KindInfo>) {}
    fn is_empty((): &()) -> bool {
        true
    }
    fn build(_: &mut Builder<'_>) -> Result<(), SnapshotError> {
        Ok(())
    }
    fn apply((): &mut (), (): &mut (), _: &Input<'_>, _: &mut Context<'_>) {}
    fn apply_again((): &mut (), (): &mut (), _: &Input<'_>, _: &mut Context<'_>) {}
    fn work_out((): &(), (): &mut (), _: &Input<'_>, _: &mut Context<'_>) {}
    fn replace((): &mut (), (): &mut (), (): &mut (), _: &Replaced<'_>, _: &mut Context<'_>) {}
    fn of<'l, Q: Processor + 'static>(
        (): &'l mut (),
        (): &'l mut (),
    ) -> Option<(&'l mut Q::State, &'l mut Q::User)> {
        None
    }
    fn part_of<'l, Q: Processor + 'static>((): &(), (): &'l ()) -> Option<&'l Q::User> {
        None
    }
    fn touch((): &()) -> i64 {
        0
    }
    fn settle((): &mut (), _: u64, (): &mut (), _: &mut Context<'_>) {}
    fn rest((): &mut (), _: u64, (): &mut (), _: &mut Context<'_>) {}
    fn settled_after_ms((): &()) -> i64 {
        0
    }
    fn flush((): &mut (), _: bool, _: &mut Context<'_>) {}
    fn settles_before((): &(), _: &mut Context<'_>) -> bool {
        false
    }
    fn advance((): &mut (), _: &mut Context<'_>) {}
    fn remember((): &(), (): &mut (), _: i64) -> bool {
        false
    }
    fn save((): &(), _: &mut Vec<SavedInstance>) -> Result<(), SnapshotError> {
        Ok(())
    }
    fn in_force<'i>((): &'i (), _: &mut Vec<InForce<'i>>) {}
    fn take_over((): &mut (), (): (), _: &Renames, _: &mut Map<u32, u32>) {}
    fn take_over_parts((): &(), (): &mut (), (): (), _: &Renames, _: &Map<u32, u32>) {}
}

impl<P: Processor + 'static, T: List> List for (P, T) {
    type Instances = (Vec<Instance<P>>, T::Instances);
    type Parts = (SmallVec<[(u32, P::User); 1]>, T::Parts);

    fn kinds(out: &mut Vec<KindInfo>) {
        out.push(KindInfo {
            kind: P::KIND,
            semantics: P::SEMANTICS,
            is_single: P::IS_SINGLE,
            built_in: P::built_in(),
            complete: |name, mut keys| {
                P::complete(name, &mut keys);
                let definition: P::Definition = serde_json::from_value(keys.into())?;
                serde_json::to_value(definition)
            },
        });
        T::kinds(out);
    }

    fn is_empty(all: &Self::Instances) -> bool {
        all.0.is_empty() && T::is_empty(&all.1)
    }

    fn build(builder: &mut Builder<'_>) -> Result<Self::Instances, SnapshotError> {
        let setup = builder.setup;
        let mut mine = Vec::new();
        let counted = setup.definitions(P::KIND, builder.app);
        for (spec, body) in counted.filter(|(spec, _)| setup.counts(spec)) {
            let instance = Instance::<P>::build(builder, spec, body);
            mine.extend(instance.map_err(|error| match error {
                SnapshotError::Definition(error) => SnapshotError::Definition(error.of(P::KIND, &spec.name)),
                other => other,
            })?);
        }
        Ok((mine, T::build(builder)?))
    }

    fn apply(
        all: &mut Self::Instances,
        parts: &mut Self::Parts,
        input: &Input<'_>,
        context: &mut Context<'_>,
    ) {
        for instance in &mut all.0 {
            let part = part(&mut parts.0, instance.slot);
            instance.enter(context);
            instance
                .processor
                .apply(&mut instance.state, part, input, context);
        }
        T::apply(&mut all.1, &mut parts.1, input, context);
    }

    fn apply_again(
        all: &mut Self::Instances,
        parts: &mut Self::Parts,
        input: &Input<'_>,
        context: &mut Context<'_>,
    ) {
        for instance in all.0.iter_mut().filter(|instance| instance.counted(input)) {
            let part = part(&mut parts.0, instance.slot);
            instance.enter(context);
            instance
                .processor
                .apply(&mut instance.state, part, input, context);
        }
        T::apply_again(&mut all.1, &mut parts.1, input, context);
    }

    fn work_out(
        all: &Self::Instances,
        parts: &mut Self::Parts,
        input: &Input<'_>,
        context: &mut Context<'_>,
    ) {
        for instance in all.0.iter().filter(|instance| instance.counted(input)) {
            let part = part(&mut parts.0, instance.slot);
            instance.enter(context);
            let mut nobodys = P::State::default();
            instance.processor.apply(&mut nobodys, part, input, context);
        }
        T::work_out(&all.1, &mut parts.1, input, context);
    }

    fn replace(
        all: &mut Self::Instances,
        before: &mut Self::Parts,
        parts: &mut Self::Parts,
        replaced: &Replaced<'_>,
        context: &mut Context<'_>,
    ) {
        for instance in &mut all.0 {
            let [moved, stays] = [replaced.moved, replaced.stays].map(|inputs| {
                let counted = inputs.iter().filter(|input| instance.counted(input));
                counted.copied().collect::<Vec<_>>()
            });
            let replaced = Replaced {
                user: replaced.user,
                moved: &moved,
                stays: &stays,
            };
            let before = std::mem::take(part(&mut before.0, instance.slot));
            let part = part(&mut parts.0, instance.slot);
            instance.enter(context);
            let (processor, state) = (&instance.processor, &mut instance.state);
            processor.replace(state, before, part, &replaced, context);
        }
        T::replace(&mut all.1, &mut before.1, &mut parts.1, replaced, context);
    }

    fn of<'l, Q: Processor + 'static>(
        all: &'l mut Self::Instances,
        parts: &'l mut Self::Parts,
    ) -> Option<(&'l mut Q::State, &'l mut Q::User)> {
        if TypeId::of::<P>() != TypeId::of::<Q>() {
            return T::of::<Q>(&mut all.1, &mut parts.1);
        }
        let instance = all.0.first_mut()?;
        let part = part(&mut parts.0, instance.slot) as &mut dyn Any;
        let state: &mut dyn Any = &mut instance.state;
        Some((state.downcast_mut()?, part.downcast_mut()?))
    }

    fn part_of<'l, Q: Processor + 'static>(
        all: &Self::Instances,
        parts: &'l Self::Parts,
    ) -> Option<&'l Q::User> {
        if TypeId::of::<P>() != TypeId::of::<Q>() {
            return T::part_of::<Q>(&all.1, &parts.1);
        }
        let slot = all.0.first()?.slot;
        let (_, part) = parts.0.iter().find(|(known, _)| *known == slot)?;
        (part as &dyn Any).downcast_ref()
    }

    fn touch(parts: &Self::Parts) -> i64 {
        let mine = parts.0.first().map_or(0, |(_, part)| P::touch(part));
        mine ^ T::touch(&parts.1)
    }

    fn settle(all: &mut Self::Instances, user: u64, parts: &mut Self::Parts, context: &mut Context<'_>) {
        each_part(&mut all.0, &mut parts.0, context, |instance, part, context| {
            instance
                .processor
                .settle(&mut instance.state, user, part, context);
        });
        T::settle(&mut all.1, user, &mut parts.1, context);
    }

    fn rest(all: &mut Self::Instances, user: u64, parts: &mut Self::Parts, context: &mut Context<'_>) {
        each_part(&mut all.0, &mut parts.0, context, |instance, part, context| {
            instance.processor.rest(user, part, context);
        });
        T::rest(&mut all.1, user, &mut parts.1, context);
    }

    fn settled_after_ms(all: &Self::Instances) -> i64 {
        let mine = all.0.iter().map(|instance| instance.processor.settled_after_ms());
        mine.fold(T::settled_after_ms(&all.1), i64::max)
    }

    fn flush(all: &mut Self::Instances, has_settled: bool, context: &mut Context<'_>) {
        if has_settled || !P::SETTLES {
            for instance in &mut all.0 {
                instance.enter(context);
                instance.processor.flush(&mut instance.state, context);
            }
        }
        T::flush(&mut all.1, has_settled, context);
    }

    fn settles_before(all: &Self::Instances, context: &mut Context<'_>) -> bool {
        all.0
            .iter()
            .any(|instance| instance.processor.settles_before(&instance.state, context))
            || T::settles_before(&all.1, context)
    }

    fn advance(all: &mut Self::Instances, context: &mut Context<'_>) {
        for instance in &mut all.0 {
            instance.enter(context);
            instance.processor.advance(&mut instance.state, context);
        }
        T::advance(&mut all.1, context);
    }

    fn remember(all: &Self::Instances, parts: &mut Self::Parts, cutoff: i64) -> bool {
        let remembered = std::mem::take(&mut parts.0)
            .into_iter()
            .filter_map(|(slot, part)| {
                let instance = all.0.iter().find(|instance| instance.slot == slot)?;
                Some((slot, instance.processor.remember(part, cutoff)?))
            });
        parts.0 = remembered.collect();
        T::remember(&all.1, &mut parts.1, cutoff) || !parts.0.is_empty()
    }

    fn save(all: &Self::Instances, out: &mut Vec<SavedInstance>) -> Result<(), SnapshotError> {
        for instance in &all.0 {
            let state = postcard::to_stdvec(&instance.state)
                .map_err(|error| SnapshotError::Head(format!("{}: {error}", P::KIND)))?;
            let (id, slot, start) = (instance.definition.id, instance.slot, instance.start as i64);
            out.push(SavedInstance {
                id,
                slot,
                start,
                state,
            });
        }
        T::save(&all.1, out)
    }

    fn in_force<'i>(all: &'i Self::Instances, out: &mut Vec<InForce<'i>>) {
        out.extend(all.0.iter().map(|instance| InForce {
            definition: &instance.definition,
            start: instance.start,
            origin: instance.origin,
        }));
        T::in_force(&all.1, out);
    }

    fn take_over(
        all: &mut Self::Instances,
        other: Self::Instances,
        renames: &Renames,
        slots: &mut Map<u32, u32>,
    ) {
        for mut theirs in other.0 {
            let id = theirs.definition.id;
            let mine = all.0.iter_mut().find(|instance| instance.definition.id == id);
            if let Some(mine) = mine {
                slots.insert(theirs.slot, mine.slot);
                // What both count is counted here.
                if P::KIND == Identity::KIND {
                    continue;
                }
                mine.processor.rename(&mut theirs.state, renames);
                (mine.state, mine.start, mine.origin) = (theirs.state, theirs.start, theirs.origin);
            }
        }
        T::take_over(&mut all.1, other.1, renames, slots);
    }

    fn take_over_parts(
        all: &Self::Instances,
        parts: &mut Self::Parts,
        other: Self::Parts,
        renames: &Renames,
        slots: &Map<u32, u32>,
    ) {
        for (slot, mut theirs) in other.0 {
            let mine = slots.get(&slot);
            if let Some(mine) = all.0.iter().find(|instance| Some(&instance.slot) == mine) {
                mine.processor.rename_user(&mut theirs, renames);
                *part(&mut parts.0, mine.slot) = theirs;
            }
        }
        T::take_over_parts(&all.1, &mut parts.1, other.1, renames, slots);
    }
}

/// Processors that not every configuration has: what they keep of a user lies in a box of its own, so that a user has one
/// pointer for all of them where none is counted.
pub struct Rarely<T>(PhantomData<T>);

impl<T: List> List for Rarely<T> {
    type Instances = T::Instances;
    type Parts = Option<Box<T::Parts>>;

    fn kinds(out: &mut Vec<KindInfo>) {
        T::kinds(out);
    }

    fn is_empty(all: &Self::Instances) -> bool {
        T::is_empty(all)
    }

    fn build(builder: &mut Builder<'_>) -> Result<Self::Instances, SnapshotError> {
        T::build(builder)
    }

    fn apply(
        all: &mut Self::Instances,
        parts: &mut Self::Parts,
        input: &Input<'_>,
        context: &mut Context<'_>,
    ) {
        if !T::is_empty(all) {
            T::apply(all, parts.get_or_insert_default(), input, context);
        }
    }

    fn apply_again(
        all: &mut Self::Instances,
        parts: &mut Self::Parts,
        input: &Input<'_>,
        context: &mut Context<'_>,
    ) {
        T::apply_again(all, parts.get_or_insert_default(), input, context);
    }

    fn work_out(
        all: &Self::Instances,
        parts: &mut Self::Parts,
        input: &Input<'_>,
        context: &mut Context<'_>,
    ) {
        T::work_out(all, parts.get_or_insert_default(), input, context);
    }

    fn replace(
        all: &mut Self::Instances,
        before: &mut Self::Parts,
        parts: &mut Self::Parts,
        replaced: &Replaced<'_>,
        context: &mut Context<'_>,
    ) {
        let (before, parts) = (before.get_or_insert_default(), parts.get_or_insert_default());
        T::replace(all, before, parts, replaced, context);
    }

    fn of<'l, Q: Processor + 'static>(
        all: &'l mut Self::Instances,
        parts: &'l mut Self::Parts,
    ) -> Option<(&'l mut Q::State, &'l mut Q::User)> {
        T::of::<Q>(all, parts.get_or_insert_default())
    }

    fn part_of<'l, Q: Processor + 'static>(
        all: &Self::Instances,
        parts: &'l Self::Parts,
    ) -> Option<&'l Q::User> {
        T::part_of::<Q>(all, parts.as_ref()?)
    }

    fn touch(parts: &Self::Parts) -> i64 {
        parts.as_ref().map_or(0, |parts| T::touch(parts))
    }

    fn settle(all: &mut Self::Instances, user: u64, parts: &mut Self::Parts, context: &mut Context<'_>) {
        if let Some(parts) = parts {
            T::settle(all, user, parts, context);
        }
    }

    fn rest(all: &mut Self::Instances, user: u64, parts: &mut Self::Parts, context: &mut Context<'_>) {
        if let Some(parts) = parts {
            T::rest(all, user, parts, context);
        }
    }

    fn settled_after_ms(all: &Self::Instances) -> i64 {
        T::settled_after_ms(all)
    }

    fn flush(all: &mut Self::Instances, has_settled: bool, context: &mut Context<'_>) {
        T::flush(all, has_settled, context);
    }

    fn settles_before(all: &Self::Instances, context: &mut Context<'_>) -> bool {
        T::settles_before(all, context)
    }

    fn advance(all: &mut Self::Instances, context: &mut Context<'_>) {
        T::advance(all, context);
    }

    fn remember(all: &Self::Instances, parts: &mut Self::Parts, cutoff: i64) -> bool {
        let remembers = |parts: &mut Box<T::Parts>| T::remember(all, parts, cutoff);
        let is_anything = parts.as_mut().is_some_and(remembers);
        if !is_anything {
            *parts = None;
        }
        is_anything
    }

    fn save(all: &Self::Instances, out: &mut Vec<SavedInstance>) -> Result<(), SnapshotError> {
        T::save(all, out)
    }

    fn in_force<'i>(all: &'i Self::Instances, out: &mut Vec<InForce<'i>>) {
        T::in_force(all, out);
    }

    fn take_over(
        all: &mut Self::Instances,
        other: Self::Instances,
        renames: &Renames,
        slots: &mut Map<u32, u32>,
    ) {
        T::take_over(all, other, renames, slots);
    }

    fn take_over_parts(
        all: &Self::Instances,
        parts: &mut Self::Parts,
        other: Self::Parts,
        renames: &Renames,
        slots: &Map<u32, u32>,
    ) {
        if let Some(other) = other {
            T::take_over_parts(all, parts.get_or_insert_default(), *other, renames, slots);
        }
    }
}

impl<P: Processor> Instance<P> {
    /// None: what it rests on does not count this app.
    fn build(
        builder: &mut Builder<'_>,
        spec: &crate::Spec,
        body: &serde_json::Value,
    ) -> Result<Option<Self>, SnapshotError> {
        let data: P::Definition =
            serde_json::from_value(body.clone()).map_err(|error| DefinitionError::new(error.to_string()))?;
        if let Some((other, name)) = P::rests_on(&data)
            && builder.setup.definition(other, name, builder.app).is_none()
        {
            let is_it = |spec: &crate::Spec| spec.kind == other && spec.name == name;
            if !builder.setup.definitions.iter().any(is_it) {
                return Err(DefinitionError::new(format!("there is no [[{other}]] '{name}'")).into());
            }
            return Ok(None);
        }
        let definition = Definition::new(
            builder.setup,
            builder.app,
            builder.key,
            P::SEMANTICS,
            (P::KIND, spec, body),
            P::rests_on(&data),
        );
        let mut compiler = Compiler {
            setup: builder.setup,
            app: builder.app,
            name: &spec.name,
            properties: builder.properties,
        };
        let processor = P::new(data, &mut compiler)?;
        let (slot, start, state) = match builder.saved.remove(&definition.id) {
            Some(saved) => {
                let state = postcard::from_bytes(&saved.state)
                    .map_err(|error| SnapshotError::Head(format!("{}: {error}", P::KIND)))?;
                (saved.slot, saved.start as u64, state)
            }
            None => {
                *builder.next_slot += 1;
                (*builder.next_slot, builder.start, P::State::default())
            }
        };
        let origin = origin_hash(builder.topic, builder.partition, start);
        Ok(Some(Instance {
            processor,
            definition,
            slot,
            start,
            origin,
            state,
        }))
    }

    /// Whether it counted already when a record came that is looked at once more.
    fn counted(&self, input: &Input<'_>) -> bool {
        self.start <= input.version
    }

    fn enter(&self, context: &mut Context<'_>) {
        context.definition = self.definition.id;
        context.origin = self.origin;
    }
}

/// Each part that a user has, with the instance that it is of.
fn each_part<P: Processor>(
    instances: &mut [Instance<P>],
    parts: &mut [(u32, P::User)],
    context: &mut Context<'_>,
    mut work: impl FnMut(&mut Instance<P>, &mut P::User, &mut Context<'_>),
) {
    for instance in instances {
        if let Some((_, part)) = parts.iter_mut().find(|(slot, _)| *slot == instance.slot) {
            instance.enter(context);
            work(instance, part, context);
        }
    }
}

/// A user's part for an instance; made when it is first asked for.
fn part<U: Default>(parts: &mut SmallVec<[(u32, U); 1]>, slot: u32) -> &mut U {
    let index = match parts.iter().position(|(known, _)| *known == slot) {
        Some(index) => index,
        None => {
            parts.push((slot, U::default()));
            parts.len() - 1
        }
    };
    &mut parts[index].1
}
