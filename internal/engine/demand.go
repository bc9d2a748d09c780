package engine

// demand tells backends which images waiting tasks need, so that those are fetched
// while the tasks wait for room.
func (e *Engine) demand() {
	images, version := e.store.Images()
	if version == e.demanded {
		return
	}
	e.demanded = version
	for _, n := range e.order {
		if f, ok := e.backends[n].Backend.(Fetcher); ok {
			f.Want(images)
		}
	}
}
