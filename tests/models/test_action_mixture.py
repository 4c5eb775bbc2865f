"""GC-IDM as a mixture of Gaussians: two ways to a goal are learnt as two, not as their mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wm_agents.models import InverseDynamics, InverseDynamicsConfig

ARGUMENTS = (torch.zeros(256, 4), torch.zeros(256, 4), torch.zeros(256, 4), torch.full((256,), 10))


def network(**options):
    torch.manual_seed(0)
    return InverseDynamics(InverseDynamicsConfig(latent_size=4, width=32, max_horizon=20, dropout=0.0, **options))


def test_two_ways_are_not_averaged():
    ways = torch.from_numpy(np.random.default_rng(0).choice([-0.8, 0.8], (256, 1), p=[0.4, 0.6]).astype(np.float32))
    actions = torch.cat([ways, torch.full_like(ways, 0.3)], dim=1)
    mixed, plain = network(components=3), network()
    for model in (mixed, plain):
        optimiser = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(300):
            if model is mixed:
                loss = model.negative_log_likelihood(*ARGUMENTS, actions).mean()
            else:
                loss = (model(*ARGUMENTS) - actions).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        torch.testing.assert_close(mixed.eval()(*ARGUMENTS)[0], torch.tensor([0.8, 0.3]), atol=0.05, rtol=0)
        assert abs(float(plain.eval()(*ARGUMENTS)[0, 0]) - 0.16) < 0.1


def test_likelihood_of_a_known_mixture():
    model = network(components=2).eval()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()  # both are the standard normal distribution
        found = model.negative_log_likelihood(*ARGUMENTS, torch.tensor([[3.0, 4.0]]).expand(256, 2))
    torch.testing.assert_close(found, torch.full((256,), 12.5 + np.log(2 * np.pi)))


def test_it_acts_by_the_mean_of_the_likeliest():
    model = network(components=4).eval()
    with torch.no_grad():
        logits, means, _ = model._mixture(model._outputs(*ARGUMENTS))
        expected = means[torch.arange(256), logits.argmax(1)]
        torch.testing.assert_close(model(*ARGUMENTS), expected)
    assert expected.shape == (256, 2)


def test_one_component_is_the_network_as_it_was():
    assert network().state_dict().keys() == network(components=2).state_dict().keys()
    assert network().head.out_features == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"components": 0}, "components"), ({"components": 3, "choices": (3, 2), "action_size": 5}, "continuous")],
)
def test_bad_components(options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)
