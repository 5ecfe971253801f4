// One work item: a tile of packed query rows against a range of keys (FlashAttention-2, arXiv 2307.08691, with cp.async and
// mma.sync).
//
// Warps are a grid of kRows / 16 along the rows times groups along the keys: every group walks its own slice of each key tile, and
// the groups' states are merged once at the end. Tall tiles have one group, the 16-row tile of decoding has a group per warp, and
// between two tiles a group waits for nobody else.
#pragma once

#include "kernels/attention/epilogue.cuh"
#include "kernels/attention/kv_formats.cuh"
#include "kernels/attention/loader.cuh"
#include "kernels/attention/problem.cuh"
#include "kernels/attention/softmax.cuh"
#include "kernels/attention/vector_hooks.cuh"

namespace attention {

template <class C>
LATHE_DEVICE void run_item(const abi::AttentionParams& params, int index, int head) {
  constexpr int kStages = config::kStages;
  constexpr int kInFlight = 2 * kStages - 1;  // loads of keys and values under way when a wait begins
  using Group = dev::Group<C::kRows / dev::kFragmentRows, config::kWarps>;
  constexpr int kKeys = C::kKeys / Group::kGroups;  // keys of a tile that one group takes
  static_assert(kKeys % 16 == 0, "a group takes whole matrix steps of keys");
  using QTile = dev::SharedTile<Element, C::kRows, config::kHeadDimQk>;
  using KTile = dev::SharedTile<config::KeyFormat::Element, C::kKeys, config::kHeadDimQk>;
  using VTile = dev::SharedTile<config::ValueFormat::Element, C::kKeys, config::kHeadDimVo>;
  constexpr u32 kKBase = config::kEpilogueOffset + QTile::kBytes;
  constexpr u32 kVBase = kKBase + kStages * KTile::kBytes;
  constexpr u32 kChangedBase = kVBase + kStages * VTile::kBytes;

  const Problem problem = Problem::read(Plan(params), index, head);
  const abi::AttentionWorkItem& item = problem.item;
  const Group group;
  const int group_keys = group.index() * kKeys;             // first of the group's rows in a key tile
  const int row_begin = group.warp() * dev::kFragmentRows;  // first of the warp's rows in the query tile
  const int num_tiles = (item.kv_end - item.kv_begin + C::kKeys - 1) / C::kKeys;
  const QTile q_tile{config::kEpilogueOffset};
  const auto k_tile = [](int t) { return KTile{kKBase + static_cast<u32>(t % kStages) * KTile::kBytes}; };
  const auto v_tile = [](int t) { return VTile{kVBase + static_cast<u32>(t % kStages) * VTile::kBytes}; };
  // What the products read: those tiles, or the elements that a hook has made of their codes. There is one tile of these: keys and
  // values take turns, and each turn begins with a wait.
  const auto keys = [&](int t) {
    if constexpr (kCodes<KeyFormat> == kCodes<config::KeyFormat>) {
      return k_tile(t);
    } else {
      return dev::SharedTile<Element, C::kKeys, config::kHeadDimQk>{kChangedBase};
    }
  };
  const auto values = [&](int t) {
    if constexpr (kCodes<ValueFormat> == kCodes<config::ValueFormat>) {
      return v_tile(t);
    } else {
      return dev::SharedTile<Element, C::kKeys, config::kHeadDimVo>{kChangedBase};
    }
  };

  KeyLine line(params, problem, C::kRows);
  KvLoader<Group, kKeys> loader(params, problem, group, line, group_keys, C::kKeys);
  const dev::Pipeline<Group, kInFlight> pipeline{group};
  // The line of loads is (K0 V0) K1 V1 ...; before the first and past the last tile it holds empty ones, so that every wait counts
  // alike.
  const auto load_keys = [&](int t) {
    pipeline.acquire();
    if (t < num_tiles) loader.copy_keys(k_tile(t), group_keys);
    pipeline.commit();
  };
  const auto load_values = [&](int t) {
    pipeline.acquire();
    if (t >= 0 && t < num_tiles) loader.copy_values(v_tile(t), group_keys);
    pipeline.commit();
  };

  load_queries(q_tile, params, problem);
  const float scale = exponent_scale(params);
  Softmax softmax;
  dev::Accumulator<config::kHeadDimVo, kOutputColumns> o;
  dev::clear(o);
  dev::Row<float> query_sums;
  ValueDebt debt;
  // Loads run kStages tiles ahead of the products, which begin at tile 0.
#pragma unroll 1
  for (int t = -kStages; t < num_tiles; ++t) {
    const bool filling = t < 0;
    if (!filling) pipeline.wait();     // K t; and V t - 1 is done with
    if (t == 0) dev::block_barrier();  // the queries, loaded by the whole block before K 0
    if constexpr (hooks::kQuery) {
      if (t == 0) {
        transform_queries(q_tile, params, problem);
        dev::block_barrier();
      }
    }
    if constexpr (hooks::kQuerySum || hooks::kQueryNorm) {
      if (t == 0) {
        keep_query_sums(q_tile, row_begin);
        if constexpr (kCodes<KeyFormat>) dev::block_barrier();  // before they are scaled
      }
    }
    if constexpr (kCodes<KeyFormat>) {
      if (t == 0) {
        fold_query_scales(q_tile, params, problem);
        dev::block_barrier();
        if constexpr (kHasZero<KeyFormat>) sum_queries(query_sums, q_tile, row_begin, params, problem);
      }
    }
    load_values(t + kStages - 1);
    loader.prefetch(t + kStages);

    dev::Operand<Element, kKeys> weights;
    if (!filling) {
      const int first_key = line.key(params, item.kv_begin + t * C::kKeys) + group_keys;
      if constexpr (hooks::kKey) {
        transform_keys<config::KeyFormat>(
            group, k_tile(t), keys(t), group_keys, kKeys, params, params.k_scales, problem, first_key,
            [&](const hooks::ElementInputs& in, float x, float rot_x) { return hooks::key(params.hooks, in, x, rot_x); });
        group.sync();
      }
      const TokenScales<KeyFormat, kKeys> key_scales(params, params.k_scales, problem, first_key);
      const TokenScales<ValueFormat, kKeys> value_scales(params, params.v_scales, problem, first_key);
      dev::Accumulator<kKeys> scores;
      dev::clear(scores);
      dev::gemm_nt_issue(scores, q_tile, row_begin, keys(t), group_keys);
      dev::gemm_commit();
      dev::gemm_wait<0>();
      pipeline.release();

      apply_key_scales(scores, query_sums, key_scales);
      shape_scores(scores, params, problem, row_begin, first_key, line.full());
      if constexpr (hooks::kNormalizes) {
        dev::Row<float> shrink;
        softmax.update(scores, shrink, scale);
        dev::scale_rows(o, shrink);
        debt.shrink(shrink);
      }
      if constexpr (hooks::kWeight) apply_weight_hook(scores, params, problem, row_begin, first_key);
      debt.apply_scales(scores, value_scales);
      dev::round_to_operand(weights, scores);

      pipeline.wait();  // V t; and K t is done with
      if constexpr (hooks::kValue) {
        transform_keys<config::ValueFormat>(
            group, v_tile(t), values(t), group_keys, kKeys, params, params.v_scales, problem, first_key,
            [&](const hooks::ElementInputs& in, float x, float rot_x) { return hooks::value(params.hooks, in, x, rot_x); });
        group.sync();
      }
    }
    load_keys(t + kStages);
    if (filling) continue;

    dev::gemm_nn_issue(o, weights, values(t), group_keys);
    dev::gemm_commit();
    dev::gemm_wait<0>();
    pipeline.release();
  }
  dev::copy_async_wait<0>();  // without a tile nobody has waited for the queries
  finish_item<C, Group::kGroups>(o, softmax, debt, params, index, head, group.index(), row_begin);
}

}  // namespace attention
