"""Gaps: text, algebra, and exactly what they do to a live model."""

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import InputError
from sim.gaps import Gap, apply_gap, restore
from sim.task import make_task

factors = st.floats(0.01, 30, allow_nan=False)
gaps = st.builds(
    Gap,
    gravity=factors,
    friction=factors,
    mass=factors,
    damping=factors,
    delay_steps=st.integers(0, 20),
    gain=factors,
    obs_noise=st.floats(0, 10),
)

XML = """
<mujoco>
  <statistic extent="7" center="0 0 1"/>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 1" friction="0.8 0.01 0.001"/>
    <body name="arm" pos="0 0 1">
      <joint type="hinge" axis="0 1 0" damping="0.5" armature="0.1"/>
      <inertial pos="0.1 0 0" mass="{mass}" diaginertia="{i} {i} {i}"/>
      <geom type="sphere" size="0.1"/>
      <body pos="0.3 0 0">
        <joint type="hinge" axis="0 1 0" damping="0.2"/>
        <inertial pos="0.1 0 0" mass="{mass}" diaginertia="{i} {i} {i}"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""
FIELDS = [name for name in dir(mujoco.MjModel) if not name.startswith("_")]


def arrays(model):
    values = {name: getattr(model, name) for name in FIELDS}
    found = {name: value.copy() for name, value in values.items() if isinstance(value, np.ndarray)}
    return found | {
        "gravity": model.opt.gravity.copy(),
        "extent": np.array(model.stat.extent),
        "center": model.stat.center.copy(),
        "meaninertia": np.array(model.stat.meaninertia),
    }


def changed(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name], equal_nan=True)}


def model_of(mass=2.0, inertia=0.3):
    return mujoco.MjModel.from_xml_string(XML.format(mass=mass, i=inertia))


@given(gaps)
def test_text_round_trips(gap):
    assert Gap.parse(str(gap)) == gap


@given(gaps)
def test_no_gap_is_neutral(gap):
    assert gap.compose(Gap()) == gap
    assert Gap().compose(gap) == gap


def test_composing_multiplies_adds_and_adds_in_quadrature():
    one = Gap(gravity=2, friction=0.5, mass=3, damping=4, delay_steps=1, gain=0.5, obs_noise=0.3)
    both = one.compose(Gap(gravity=3, friction=0.5, mass=2, damping=0.5, delay_steps=2, gain=0.5, obs_noise=0.4))
    assert both == Gap(gravity=6, friction=0.25, mass=6, damping=2, delay_steps=3, gain=0.25, obs_noise=0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gravty=2", "did you mean 'gravity'"),
        ("gravity", "expected key=value, got 'gravity'"),
        ("gravity=2,gravity=3", "given twice"),
        ("gravity=heavy", "gravity.*got 'heavy'"),
        ("gravity=nan", "gravity"),
        ("mass=0", "mass"),
        ("gain=-1", "gain"),
        ("delay_steps=-1", "delay_steps"),
        ("delay_steps=1.5", "delay_steps"),
        ("obs_noise=-0.1", "obs_noise"),
    ],
)
def test_wrong_text_is_refused_by_name(text, message):
    with pytest.raises(InputError, match=message):
        Gap.parse(text)


@pytest.mark.parametrize(
    ("gap", "fields"),
    [
        (Gap(gravity=2), {"gravity"}),
        (Gap(friction=0.3), {"geom_friction"}),
        (Gap(damping=5), {"dof_damping"}),
    ],
)
def test_a_gap_changes_its_field_by_its_factor_and_nothing_else(gap, fields):
    model = model_of()
    before = arrays(model)
    apply_gap(model, gap)
    after = arrays(model)
    assert changed(before, after) == fields
    (name,) = fields
    factor = getattr(gap, gap.given[0])
    assert np.array_equal(after[name], before[name] * factor)


def test_a_heavier_model_is_the_one_that_its_file_would_have_made():
    model = model_of(2.0, 0.3)
    apply_gap(model, Gap(mass=3))
    expected, got = arrays(model_of(6.0, 0.9)), arrays(model)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-9, err_msg=name)


def test_applying_again_or_another_never_compounds_and_restoring_is_exact():
    model = model_of()
    before = arrays(model)
    for _ in range(3):
        apply_gap(model, Gap(gravity=2, mass=3, friction=0.1))
    assert np.array_equal(model.body_mass, before["body_mass"] * 3)
    apply_gap(model, Gap(gravity=0.5))
    assert changed(before, arrays(model)) == {"gravity"}
    assert np.array_equal(model.opt.gravity, before["gravity"] * 0.5)
    restore(model)
    assert changed(before, arrays(model)) == set()


@pytest.mark.parametrize("spec", ["hopper", "lift-quick", "door"])
def test_a_task_carries_its_gap_through_resets(spec):
    plain, heavy = make_task(spec), make_task(spec, gap="gravity=2,mass=3,friction=0.5,damping=4")
    for seed in range(3):
        heavy.reset(seed=seed)
        heavy.step(heavy.hold_action())
    for name, factor in (("body_mass", 3), ("body_inertia", 3), ("geom_friction", 0.5), ("dof_damping", 4)):
        assert np.array_equal(getattr(heavy._model, name), getattr(plain._model, name) * factor), name
    assert np.array_equal(heavy._model.opt.gravity, plain._model.opt.gravity * 2)


def test_a_gap_reaches_the_physics():
    plain, light = make_task("hopper"), make_task("hopper", gap="gravity=0.1")
    heights = []
    for task in (plain, light):
        task.reset(seed=0)
        for _ in range(15):
            state = task.step(np.zeros(3))[0]["state"]
        heights.append(state[0])
    assert heights[1] > heights[0] + 0.01


def test_no_gap_is_bit_for_bit_no_gap():
    plain, same = make_task("hopper"), make_task("hopper", gap="gravity=1,mass=1.0")
    assert changed(arrays(plain._model), arrays(same._model)) == set()


def test_pusht_has_no_physics_to_change():
    with pytest.raises(InputError, match="takes no gap in 'mass'; it takes: delay_steps, gain, obs_noise"):
        make_task("pusht", gap="mass=2")
    assert make_task("pusht", gap="delay_steps=1,gain=0.9,obs_noise=1").gap.delay_steps == 1
