"""The method of the paper, as pure functions; what is ours is in `roam_jax.extensions`.

| equation    | symbol                      | function                     |
|-------------|-----------------------------|------------------------------|
| Eq. 1       | theta = [theta_cf, theta_reg] | model.init_theta           |
| Eq. 2       | W(theta_cf, phi)            | warp.warp                    |
| Eq. 3       | W(theta_reg, phi)           | warp.warp                    |
| Eq. 4       | f_r                         | warp.filter_size             |
| Eq. 5       | f_c                         | warp.filter_size             |
| Eq. 6       | (a_w, a_h)                  | boxes.anchor_size            |
| Eq. 7       | L                           | losses.tracking_loss         |
| Eq. 8       | M                           | labels.gaussian_label        |
| Eq. 9       | theta(t)                    | update.gradient_step         |
| Eq. 10      | I                           | optimizer.stack_inputs       |
| Eq. 11      | lambda                      | optimizer.bound_rates        |
| Eq. 12      | l                           | losses.update_loss           |
| Eq. 13      | meta loss                   | losses.meta_loss             |
| Eq. 14      | averaged meta loss          | losses.averaged_meta_loss    |
| Eq. 15      | epsilon                     | scaling.draw_scale           |
| Algorithm 1 | offline training            | meta.unroll                  |

O of Eq. 11, the coordinate-wise LSTM, is `networks.LSTM`; G and R are `model.respond` and `model.regress`. Other
symbols: phi is the filter size (f_r, f_c) in cells, rho `Geometry.filter_scale`, c `Geometry.stride`, alpha
`Geometry.alpha`, kappa the range of Eq. 15, omega the parameters of the optimizer, T the updates of a clip.
"""
