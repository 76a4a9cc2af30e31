// tlogcheck reads a transparency log with the reference implementation of signed notes and tiled logs, and proves every
// leaf and every older checkpoint from its tiles.
//
//	tlogcheck FOLDER VKEY
//
// FOLDER is the folder of one log, which holds checkpoints and tile. It prints how many leaves and checkpoints it proved.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Hashes of a tile are 2 to this power.
const height = 8

// folder reads tiles of a log in a folder. C2SP tlog-tiles leaves out the height, which tlog.Tile.Path writes.
type folder string

func (f folder) Height() int { return height }

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var data [][]byte
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
		bytes, err := os.ReadFile(filepath.Join(string(f), path))
		if err != nil {
			return nil, err
		}
		data = append(data, bytes)
	}
	return data, nil
}

func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

// entries of the bundle that holds leaf i of a log of this size.
func (f folder) entry(i, size int64) ([]byte, error) {
	width := min(int64(1<<height), size-i>>height<<height)
	tile := tlog.Tile{H: height, L: 0, N: i >> height, W: int(width)}
	path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/0/", height), "tile/entries/", 1)
	bundle, err := os.ReadFile(filepath.Join(string(f), path))
	if err != nil {
		return nil, err
	}
	for skip := i & (1<<height - 1); ; skip-- {
		if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
			return nil, fmt.Errorf("%s ends before leaf %d", path, i)
		}
		length := int(binary.BigEndian.Uint16(bundle))
		if skip == 0 {
			return bundle[2 : 2+length], nil
		}
		bundle = bundle[2+length:]
	}
}

// checkpoint opens a signed checkpoint.
func checkpoint(path string, verifier note.Verifier) (tlog.Tree, error) {
	signed, err := os.ReadFile(path)
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], verifier.Name()+"/") {
		return tlog.Tree{}, fmt.Errorf("%q is no checkpoint of a log of %s", opened.Text, verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return tlog.Tree{}, fmt.Errorf("%q is no root", lines[2])
	}
	return tlog.Tree{N: size, Hash: tlog.Hash(root)}, nil
}

func prove(path, vkey string) error {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(path, "checkpoints", "*"))
	if err != nil || len(names) == 0 {
		return fmt.Errorf("there is no checkpoint in %s: %v", path, err)
	}
	sort.Strings(names)
	var trees []tlog.Tree
	for _, name := range names {
		tree, err := checkpoint(name, verifier)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		trees = append(trees, tree)
	}
	newest := trees[len(trees)-1]
	hashes := tlog.TileHashReader(newest, folder(path))
	for i := range newest.N {
		entry, err := folder(path).entry(i, newest.N)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveRecord(newest.N, i, hashes)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, newest.N, newest.Hash, i, tlog.RecordHash(entry)); err != nil {
			return fmt.Errorf("leaf %d: %w", i, err)
		}
	}
	for _, old := range trees {
		proof, err := tlog.ProveTree(newest.N, old.N, hashes)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, newest.N, newest.Hash, old.N, old.Hash); err != nil {
			return fmt.Errorf("checkpoint of %d leaves: %w", old.N, err)
		}
	}
	fmt.Printf("%d leaves and %d checkpoints proven\n", newest.N, len(trees))
	return nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: tlogcheck FOLDER VKEY")
		os.Exit(64)
	}
	if err := prove(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "tlogcheck:", err)
		os.Exit(1)
	}
}
