"""The mathematics of sampling: schedules, guidance, noise and samplers. No model is imported here.

A noise level is a pair ``(signal, noise)`` and ``x = signal * clean + noise * eps``; it stays finite where
the ratio ``noise / signal`` does not. One generation reads::

    schedule = Schedule(MODELSCOPE)
    path = plan("dpmpp_2m", schedule, steps=25)
    draws = Noise([seed], shape, device=device)
    denoise = denoiser(predict, schedule.config.prediction, guidance=9.0)
    for step in sample("dpmpp_2m", denoise, path.start * draws.initial(), path, noise=draws.step):
        ...  # step.x after the step, step.clean the present estimate of the finished clip

A generation that starts from a clip differs in its path and its start alone: see ``sdedit``.
"""
