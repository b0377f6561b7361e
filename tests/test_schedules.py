"""Learning rates by epoch, against the numbers that the published configurations give."""

import pytest

from finetune.schedules import PROMPT_PEAK, prompt_cosine, warmup_step_factor

BASELINE = {
    1: 3.815e-5,
    2: 7.28e-5,
    5: 1.7675e-4,
    9: 3.1535e-4,
    10: 3.5e-4,
    39: 3.5e-4,
    40: 3.5e-5,
    69: 3.5e-5,
    70: 3.5e-6,
}
TRANSFORMER = {1: 9.5e-7, 5: 2.75e-6, 10: 5e-6, 29: 5e-6, 30: 5e-7, 49: 5e-7, 50: 5e-8, 60: 5e-8}
PROMPTS = {(1, 60): 7.8e-5, (5, 60): 3.440541e-4, (30, 60): 1.755e-4, (59, 60): 1.239146e-6, (60, 60): 1e-6}
PROMPTS_OF_PARTS = {
    (30, 80): 2.422783e-4,
    (60, 80): 5.210987e-5,
    (61, 80): 4.736072e-5,
    (79, 80): 1.134533e-6,
    (80, 80): 1e-6,
}


@pytest.mark.parametrize(("epoch", "learning_rate"), BASELINE.items())
def test_the_baseline_rises_for_ten_epochs_and_falls_twice(epoch, learning_rate):
    assert 3.5e-4 * warmup_step_factor(epoch) == pytest.approx(learning_rate, rel=1e-6)


@pytest.mark.parametrize("warmup_epochs", [0, 1])
def test_without_warmup_the_first_epoch_is_at_the_peak(warmup_epochs):
    assert warmup_step_factor(1, warmup_epochs=warmup_epochs) == 1


@pytest.mark.parametrize(("epoch", "learning_rate"), TRANSFORMER.items())
def test_transformers_begin_higher_and_fall_earlier(epoch, learning_rate):
    factor = warmup_step_factor(epoch, warmup_factor=0.1, milestones=(30, 50))
    assert 5e-6 * factor == pytest.approx(learning_rate, rel=1e-6)


@pytest.mark.parametrize(("epoch", "learning_rate"), (PROMPTS | PROMPTS_OF_PARTS).items())
def test_prompts_rise_for_five_epochs_and_fall_to_a_millionth(epoch, learning_rate):
    assert PROMPT_PEAK * prompt_cosine(*epoch) == pytest.approx(learning_rate, rel=1e-6)
