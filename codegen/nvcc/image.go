package nvcc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// readImage reads what nvcc wrote and refuses what cannot be an image: nvcc
// has been seen to exit with status 0 on a full disk.
func readImage(name string, format Format) ([]byte, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("it ended without an error and wrote no %s", format)
	}
	if err != nil {
		return nil, err
	}
	if err := checkImage(data, format); err != nil {
		return nil, fmt.Errorf("it ended without an error and wrote a bad %s: %w", format, err)
	}
	return data, nil
}

func checkImage(data []byte, format Format) error {
	if len(data) == 0 {
		return errors.New("the file is empty")
	}
	if format == PTX {
		if !bytes.Contains(data, []byte(".version")) || !bytes.HasSuffix(bytes.TrimRight(data, "\x00\n\r\t "), []byte("}")) {
			return fmt.Errorf("%d bytes that are not a whole PTX module", len(data))
		}
		return nil
	}
	return checkCubin(data)
}

// Fields of the 64-bit ELF header, by offset, and the machine number of CUDA
// (ELF specification and the registry of machine numbers).
const (
	elfHeaderSize = 64
	elfMachine    = 18 // uint16
	elfProgOffset = 32 // uint64
	elfSectOffset = 40 // uint64
	elfProgSize   = 54 // uint16, then the count
	elfSectSize   = 58 // uint16, then the count
	machineCUDA   = 190
)

// checkCubin sees whether all tables of an ELF file lie inside it. nvcc writes
// them behind the code, so a truncated file lacks them.
func checkCubin(data []byte) error {
	if len(data) < elfHeaderSize || !bytes.HasPrefix(data, []byte("\x7fELF\x02\x01")) {
		return fmt.Errorf("%d bytes without the header of a 64-bit ELF file", len(data))
	}
	if m := binary.LittleEndian.Uint16(data[elfMachine:]); m != machineCUDA {
		return fmt.Errorf("an ELF file for machine %d, need %d (CUDA)", m, machineCUDA)
	}
	tables := []struct {
		name         string
		offset, size int
	}{
		{"program headers", elfProgOffset, elfProgSize},
		{"section headers", elfSectOffset, elfSectSize},
	}
	for _, t := range tables {
		at := binary.LittleEndian.Uint64(data[t.offset:])
		one := binary.LittleEndian.Uint16(data[t.size:])
		count := binary.LittleEndian.Uint16(data[t.size+2:])
		size := uint64(one) * uint64(count)
		if at > uint64(len(data)) || size > uint64(len(data))-at {
			return fmt.Errorf("its %s end at byte %d, have %d bytes", t.name, at+size, len(data))
		}
	}
	return nil
}
