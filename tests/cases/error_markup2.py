def optimizer_init_state(seed, param_sizes, **context):
    raise KeyError("config section [decay] is missing; roles were [weight] and [bias]")


def optimizer_query_at_params(state, model_params, epoch, train_loss, val_loss):
    return None


def optimizer_step(state, model_params, gradients, epoch, train_loss, val_loss):
    return [0 * g for g in gradients]
