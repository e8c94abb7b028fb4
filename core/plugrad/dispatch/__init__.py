"""How a call of an op becomes a kernel call, and what is remembered of it for the gradient.

`op` states an op. A call goes through `call` (the signature and its look-up), `settle` (everything that a
signature decides, once), `runner` (the straight line that every later call runs), and leaves a `record`,
whose nodes know their `pullback`. `modes` are what changes the meaning of a call, thread by thread.
"""
