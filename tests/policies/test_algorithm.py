"""What all learners share: schedule, state, moving, names."""

import math

import pytest
import torch

from episodes.errors import InputError
from policies.algorithm import cosine, preparation_in
from policies.bc import BC, BCConfig
from policies.iql import IQL, IQLConfig
from policies.registry import algorithm_names, config_class, learns_online, make_algorithm

SMALL = (16, 16)


def learner(name: str, preparation, seed: int = 0, dropout: float = 0.5, decay_steps: int | None = 20):
    config = config_class(name)(hidden=SMALL, dropout=dropout, learning_rate=1e-2)
    return make_algorithm(name, config, preparation(chunk=2), seed=seed, decay_steps=decay_steps)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_cosine_decay_is_half_a_cosine_to_zero_and_stays_there():
    for step in range(0, 140, 7):
        expected = 0.02 * (1 + math.cos(math.pi * min(step, 100) / 100)) / 2
        assert cosine(0.02, step, 100) == pytest.approx(expected, abs=1e-12)
    assert cosine(0.02, 0, 100) == 0.02
    assert cosine(0.02, 50, 100) == pytest.approx(0.01)
    assert cosine(0.02, 100, 100) == cosine(0.02, 250, 100) == 0.0


def test_no_decay_steps_is_a_constant_rate():
    assert {cosine(0.02, step, None) for step in (0, 1, 10**6)} == {0.02}


@pytest.mark.parametrize("name", ["bc", "iql", "famo2o"])
def test_only_the_actors_rate_decays(name, preparation, batch):
    algorithm = learner(name, preparation, decay_steps=4)
    for step in range(6):
        algorithm.update(batch(step, chunk=2))
        rates = {key: optimiser.param_groups[0]["lr"] for key, optimiser in algorithm.optimisers.items()}
        assert rates.pop("actor") == pytest.approx(0.01 * (1 + math.cos(math.pi * min(step, 4) / 4)) / 2, abs=1e-12)
        assert set(rates.values()) <= {0.01}
    assert algorithm.step == 6


def test_a_rate_of_the_policys_own_is_used_and_decays_in_the_same_way(preparation, batch):
    config = IQLConfig(hidden=SMALL, learning_rate=1e-2, actor_learning_rate=2e-3)
    algorithm = IQL(config, preparation(), seed=0, decay_steps=4)
    for step in range(3):
        algorithm.update(batch(step))
        rates = {key: optimiser.param_groups[0]["lr"] for key, optimiser in algorithm.optimisers.items()}
        expected = 0.002 * (1 + math.cos(math.pi * step / 4)) / 2
        assert rates == {"value": 0.01, "critic": 0.01, "actor": pytest.approx(expected)}


@pytest.mark.parametrize("name", ["bc", "iql", "famo2o"])
def test_without_decay_steps_the_actors_rate_stays(name, preparation, batch):
    algorithm = learner(name, preparation, decay_steps=None)
    for step in range(3):
        algorithm.update(batch(step, chunk=2))
        assert algorithm.optimisers["actor"].param_groups[0]["lr"] == 0.01


@pytest.mark.parametrize("name", ["bc", "iql", "famo2o"])
def test_a_learner_goes_on_from_its_state_bit_for_bit(name, preparation, batch):
    """Parameters, targets, both moments and step counts of every optimiser, the schedule, the dropout generator."""
    unbroken = learner(name, preparation)
    for step in range(5):
        unbroken.update(batch(step, chunk=2))
    state = {key: tensor.clone() for key, tensor in unbroken.state_dict().items()}
    other = learner(name, preparation, seed=99)
    other.load_state_dict(state)
    assert same(other.state_dict(), state)
    for step in range(5, 9):
        unbroken.update(batch(step, chunk=2))
        other.update(batch(step, chunk=2))
    assert same(other.state_dict(), unbroken.state_dict())


TRUNK, FAMILY, BALANCE = (f"module/actor/{part}trunk.layers.0.weight" for part in ("", "family.", "balance."))


@pytest.mark.parametrize(
    ("name", "part", "witness"),
    [
        *((name, part, TRUNK) for name in ("bc", "iql") for part in ("generator", "step", "optimiser/actor/")),
        *((name, "module/actor/log_std", "module/actor/log_std") for name in ("bc", "iql")),
        *(
            ("famo2o", part, FAMILY)
            for part in ("generator", "step", "optimiser/actor/", "module/actor/family.log_std")
        ),
        *(("famo2o", part, BALANCE) for part in ("generator", "optimiser/balance/", "module/actor/balance.log_std")),
        *(("famo2o", part, "module/temperature/log") for part in ("module/temperature/log", "optimiser/temperature/")),
    ],
)
def test_every_part_of_the_state_matters(name, part, witness, preparation, batch):
    """Were one left out of the state, going on would come out differently: this is what the test above relies on."""
    unbroken = learner(name, preparation)
    for step in range(5):
        unbroken.update(batch(step, chunk=2))
    state = unbroken.state_dict()
    fresh = learner(name, preparation, seed=99).state_dict()
    if part.endswith("/"):
        crippled = {key: tensor for key, tensor in state.items() if not key.startswith(part)}
    else:
        crippled = {key: fresh[key] if key == part else tensor for key, tensor in state.items()}
    other = learner(name, preparation, seed=99)
    other.load_state_dict(crippled)
    other.update(batch(5, chunk=2))
    unbroken.update(batch(5, chunk=2))
    assert not torch.equal(other.state_dict()[witness], unbroken.state_dict()[witness])


@pytest.mark.parametrize("name", ["bc", "iql", "famo2o"])
def test_the_state_holds_what_an_optimiser_and_a_preparation_are_made_of(name, preparation, batch):
    algorithm = learner(name, preparation)
    algorithm.update(batch(0, chunk=2))
    state = algorithm.state_dict()
    parameters = {id(p) for module in algorithm.modules.values() for p in module.parameters() if p.requires_grad}
    for kind in ("step", "exp_avg", "exp_avg_sq"):
        assert sum(key.startswith("optimiser/") and key.endswith(f"/{kind}") for key in state) == len(parameters)
    restored = preparation_in(state)
    for name, tensor in algorithm.preparation.tensors().items():
        assert torch.equal(restored.tensors()[name], tensor)


@pytest.mark.parametrize("name", ["bc", "iql", "famo2o"])
def test_moving_takes_the_optimisers_along(name, preparation, batch):
    """Fused Adam wants its step counts where the parameters are, too. `meta` stands for a GPU."""
    algorithm = learner(name, preparation)
    algorithm.update(batch(0, chunk=2))
    algorithm.to(torch.device("meta"))
    tensors = [p for module in algorithm.modules.values() for p in module.parameters()]
    tensors += [v for o in algorithm.optimisers.values() for values in o.state.values() for v in values.values()]
    tensors += list(algorithm.preparation.tensors().values())
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_a_seed_decides_the_initial_weights(preparation):
    first, again, other = (learner("iql", preparation, seed=seed).state_dict() for seed in (3, 3, 4))
    assert same(first, again)
    assert not torch.equal(first["module/value/layers.0.weight"], other["module/value/layers.0.weight"])


def test_the_registry_knows_the_algorithms_by_name(preparation):
    assert algorithm_names() == [
        "bc",
        "cal_ql",
        "famo2o",
        "fisor",
        "h2o",
        "h2o_plus",
        "iql",
        "iql_lagrangian",
        "rlpd",
        "uni_o4",
    ]
    assert (config_class("bc"), config_class("iql")) == (BCConfig, IQLConfig)
    assert isinstance(learner("bc", preparation), BC) and isinstance(learner("iql", preparation), IQL)
    assert (learns_online("bc"), learns_online("iql")) == (False, True)
    known = "bc, cal_ql, famo2o, fisor, h2o, h2o_plus, iql, iql_lagrangian, rlpd, uni_o4"
    with pytest.raises(InputError, match=rf"unknown algorithm 'iqll'; did you mean 'iql'\? known: {known}"):
        config_class("iqll")
