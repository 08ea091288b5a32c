"""What stands between the page and the engine: the protocol, the two workers, and what they keep in the browser.

Read messages.py first: it is the whole conversation. train_worker.py and chat_worker.py answer it.
"""
