//go:build cuda && cgo

package driver

import "gorgonia.org/cu"

// other returns the implementation of a peer.
func (d *device) other(peer Device) (*device, error) {
	p, ok := peer.(*device)
	if !ok {
		return nil, d.refuse("reach a peer: the other device is not of this driver")
	}
	return p, nil
}

// CanAccess is true for the same physical device, where all memory is shared.
func (d *device) CanAccess(peer Device) (can bool, err error) {
	p, err := d.other(peer)
	if err != nil || p.dev == d.dev {
		return err == nil, err
	}
	err = d.Do(func() error {
		n, err := d.dev.CanAccessPeer(p.dev)
		can = n != 0
		return d.fail(err, "ask about access to device %d", p.info.Index)
	})
	return can, err
}

func (d *device) EnableAccess(peer Device) error {
	p, err := d.other(peer)
	if err != nil || p.dev == d.dev {
		return err
	}
	return d.Do(func() error {
		err := p.ctx.EnablePeerAccess(0)
		if codeOf(err) == CodePeerIsEnabled {
			return nil
		}
		return d.fail(err, "enable access to device %d", p.info.Index)
	})
}

func (d *device) PeerCopy(peer Device, dst, src Ptr, bytes int64) error {
	p, err := d.other(peer)
	if err != nil {
		return err
	}
	return d.sized(bytes, "copy", func() error {
		err := cu.MemcpyPeer(cu.DevicePtr(dst), p.ctx, cu.DevicePtr(src), d.ctx, bytes)
		return d.fail(finish(err), "copy %d bytes to device %d", bytes, p.info.Index)
	})
}

func (d *device) PeerCopyAsync(peer Device, dst, src Ptr, bytes int64, s Stream) error {
	p, err := d.other(peer)
	if err != nil {
		return err
	}
	return d.sized(bytes, "copy", func() error {
		err := cu.MemcpyPeerAsync(cu.DevicePtr(dst), p.ctx, cu.DevicePtr(src), d.ctx, bytes, reinterpret[cu.Stream](s))
		return d.fail(err, "copy %d bytes to device %d", bytes, p.info.Index)
	})
}
