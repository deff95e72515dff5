"""A selector in your own training loop: p-SGD chooses the samples, the rest is yours."""

import jax
import jax.numpy as jnp
import optax

from jaxbudget import Outputs, Spec, data, make_selector, plain_batch

train, test = data.place(data.load('digits'))
spec = Spec(train.label.size, batch_size=32, num_classes=10, epochs=20, image_shape=(8, 8, 1))
selector = make_selector('p_sgd', spec, budget=0.3)  # or your own: five pure functions
optimizer = optax.adam(3e-3)


def model(params, image):
  return (image.reshape(len(image), -1).astype(jnp.float32) / 255) @ params


@jax.jit
def step(params, opt_state, chosen, index, weight):
  batch = plain_batch(train, index, weight, spec.num_classes)

  def objective(params):
    logits = model(params, batch.image)
    loss = optax.softmax_cross_entropy(logits, batch.target)
    return jnp.mean(batch.weight * loss), Outputs(logits, loss)

  gradient, outputs = jax.grad(objective, has_aux=True)(params)
  updates, opt_state = optimizer.update(gradient, opt_state)
  return optax.apply_updates(params, updates), opt_state, selector.update(chosen, batch, outputs)


key, params = jax.random.key(0), jnp.zeros((64, 10))
opt_state, chosen = optimizer.init(params), selector.init(key)
for epoch in range(selector.facts.epochs):
  chosen, plan = jax.jit(selector.plan)(chosen, jax.random.fold_in(key, epoch), epoch)
  for row in range(selector.facts.rows):
    params, opt_state, chosen = step(params, opt_state, chosen, plan.index[row], plan.weight[row])
correct = model(params, test.image).argmax(-1) == test.label
print(f'test accuracy {correct.mean():.1%} on {selector.facts.planned.backward} samples')
