"""One module for each data set of photographs; `attennorm_tf.data.photographs` lists them."""
