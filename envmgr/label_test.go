package envmgr

import "testing"

// TestHash: what makes another container has another hash, and nothing else has.
func TestHash(t *testing.T) {
	t.Parallel()
	d := named("redis")
	d.Ports = []Port{{Container: 1}}
	for what, change := range map[string]func(*Definition){
		"empty instead of nil": func(d *Definition) {
			d.Command, d.Labels, d.Volumes, d.CapAdd = []string{}, map[string]string{}, []Volume{}, []string{}
		},
		"its own name":      func(d *Definition) { d.Container = "redis" },
		"the address, said": func(d *Definition) { d.Ports = []Port{{Address: "127.0.0.1", Container: 1}} },
		"the network, said": func(d *Definition) { d.Networks = []Network{{Name: "ours"}} },
		"a need":            func(d *Definition) { d.Needs = []Need{{Name: "x"}} },
	} {
		o := d
		if change(&o); o.hash("ours") != d.hash("ours") {
			t.Errorf("%s makes another container", what)
		}
	}
	if d.hash("ours") == d.hash("another") {
		t.Error("the network does not count")
	}
	o := d
	if o.Entrypoint = []string{}; o.hash("ours") == d.hash("ours") {
		t.Error("that the image's entrypoint is taken away does not count")
	}
}
