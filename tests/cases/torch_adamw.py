from __future__ import annotations

import torch


def optimizer_init_state(seed, param_sizes, **context):
    params = [torch.nn.Parameter(torch.zeros(s)) for s in context["shapes"]]
    return {"params": params, "opt": torch.optim.AdamW(params, lr=1e-3)}


def optimizer_query_at_params(state, model_params, epoch, train_loss, val_loss):
    return None


def optimizer_step(state, model_params, gradients, epoch, train_loss, val_loss):
    with torch.no_grad():
        for p, q, g in zip(state["params"], model_params, gradients, strict=True):
            p.copy_(q)
            p.grad = g
    state["opt"].step()
    return [(p.detach() - q) for p, q in zip(state["params"], model_params, strict=True)]
