"""People: reproducible and varied."""

import numpy as np

from portrait.synthetic import Identity


def test_a_person_is_a_function_of_the_seed() -> None:
    np.random.seed(1)
    assert Identity.random(17) == Identity.random(17)
    assert Identity.random(17) != Identity.random(18)


def test_people_differ_in_look_and_voice() -> None:
    people = [Identity.random(seed) for seed in range(200)]
    assert len({p.hair_style for p in people}) >= 9
    assert len({p.glasses for p in people}) == 4
    assert {p.beard for p in people} >= {"none", "full", "moustache"}
    assert np.std([p.skin for p in people], axis=0).min() > 0.1
    pitch = np.array([p.pitch_hz for p in people])
    assert pitch.min() < 110
    assert pitch.max() > 220


def test_proportions_leave_room_for_an_open_mouth() -> None:
    for seed in range(200):
        person = Identity.random(seed)
        assert person.nose_y + 0.03 < person.mouth_y < person.chin - 0.06
        assert all(0 <= c <= 1 for c in (*person.skin, *person.lips, *person.hair, *person.iris))
