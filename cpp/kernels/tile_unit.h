// SPDX-License-Identifier: MIT
//
// The tile unit of x86 (Intel, "Advanced Matrix Extensions", Architecture Instruction Set
// Extensions Programming Reference, chapter 3): eight tiles of 16 rows of 64 bytes. Tiles are named
// by literal numbers, as compilers want them. Compiled with ECG_EMULATE_TILES the unit is a piece
// of memory, for tests on processors that have none, and for sanitizers, which do not see what
// tiles read and write.
#pragma once

#ifndef ECG_EMULATE_TILES
#include <immintrin.h>
#endif

#include "ecgcore/math/half.h"

namespace ecg::cpu::ECG_ISA {
namespace {

// What LDTILECFG reads.
struct alignas(64) TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

#ifdef ECG_EMULATE_TILES

struct EmulatedUnit {
  TileConfig config;
  alignas(64) uint32_t tiles[8][16][16];

  // Without a setting there is nothing but not-a-number.
  void load(int tile, const void* from, int64_t stride) {
    for (int i = 0; i < 16; ++i) {
      for (uint32_t& word : tiles[tile][i]) word = config.palette == 1 ? 0u : ~0u;
      if (config.palette != 1 || i >= config.rows[tile]) continue;
      __builtin_memcpy(tiles[tile][i], static_cast<const char*>(from) + i * stride,
                       config.row_bytes[tile]);
    }
  }
  void store(int tile, void* to, int64_t stride) const {
    for (int i = 0; i < 16; ++i) {
      __builtin_memcpy(static_cast<char*>(to) + i * stride, tiles[tile][i], 64);
    }
  }
  // TDPBF16PS: sums of the even and of the odd products, added to what is there.
  void multiply(int sum, int left, int right) {
    const auto half = [](uint32_t pair, int odd) {
      return to_real<float>(BFloat16{static_cast<uint16_t>(odd ? pair >> 16 : pair & 0xffffu)});
    };
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 16; ++j) {
        float part[2] = {0, 0};
        for (int k = 0; k < 16; ++k) {
          for (int odd = 0; odd < 2; ++odd) {
            part[odd] += half(tiles[left][i][k], odd) * half(tiles[right][k][j], odd);
          }
        }
        float total;
        __builtin_memcpy(&total, &tiles[sum][i][j], sizeof total);
        total += part[0] + part[1];
        __builtin_memcpy(&tiles[sum][i][j], &total, sizeof total);
      }
    }
  }
};

thread_local EmulatedUnit emulated_unit{};

#define ECG_TILE_LOAD(tile, from, stride) emulated_unit.load(tile, from, stride)
#define ECG_TILE_STORE(tile, to, stride) emulated_unit.store(tile, to, stride)
#define ECG_TILE_MULTIPLY(sum, left, right) emulated_unit.multiply(sum, left, right)

inline void load_setting(const TileConfig& from) { emulated_unit.config = from; }
inline void store_setting(TileConfig& to) { to = emulated_unit.config; }
inline void touch(void*) {}

#else

#define ECG_TILE_LOAD(tile, from, stride) _tile_loadd(tile, from, stride)
#define ECG_TILE_STORE(tile, to, stride) _tile_stored(tile, to, stride)
#define ECG_TILE_MULTIPLY(sum, left, right) _tile_dpbf16ps(sum, left, right)

// Tells the compiler, which does not see it, that tile instructions read and write what `memory`
// points to.
inline void touch(void* memory) { __asm__ volatile("" : : "r"(memory) : "memory"); }
inline void load_setting(const TileConfig& from) { _tile_loadconfig(&from); }
inline void store_setting(TileConfig& to) { _tile_storeconfig(&to); }

#endif

// Gives a thread tiles for as long as it lives. The setting of another library, if it left one,
// returns behind it.
class TileUnit {
 public:
  TileUnit() {
    touch(&before_);
    store_setting(before_);
    load_setting(kConfig);
  }
  ~TileUnit() {
    touch(&before_);
    load_setting(before_);
  }
  TileUnit(const TileUnit&) = delete;
  TileUnit& operator=(const TileUnit&) = delete;

 private:
  // All eight tiles whole: what is missing is zeros.
  static constexpr TileConfig kConfig{
      1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
  TileConfig before_{};
};

}  // namespace
}  // namespace ecg::cpu::ECG_ISA
