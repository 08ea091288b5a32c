"""What stands between the page and the engine: the protocol, the two workers, and what they keep in the browser.

Read protocol/ first: it is the whole conversation. train_worker.py and chat_worker.py build what answers it.
"""
