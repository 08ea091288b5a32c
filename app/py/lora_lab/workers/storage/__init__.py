"""What outlives the page: folders of the browser's own, models that were downloaded, the adapters' shelf."""
