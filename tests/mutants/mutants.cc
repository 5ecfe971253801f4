#include "mutants.h"

namespace lathe::testing {
namespace {

#define KERNEL "kernels/attention/"
#define PLAN "kernels/attention_plan/"
#define APPEND "kernels/append/"
#define FINISH "kernels/shared/finish_row.cuh"
#define MERGE "kernels/merge/merge_rows.cuh"

constexpr Mutant kMutants[] = {
    // The pipeline.
    {"keys_not_waited_for", KERNEL "run_item.cuh", "if (!filling) pipeline.wait();", "if (!filling) group.sync();"},
    {"values_not_waited_for", KERNEL "run_item.cuh", "pipeline.wait();  // V t; and K t is done with", "group.sync();"},
    {"wait_covers_one_load_less", "device/pipeline.cuh", "copy_async_wait<IN_FLIGHT - 1>", "copy_async_wait<IN_FLIGHT>"},
    {"wait_without_barrier", "device/pipeline.cuh", "    group.sync();\n  }\n  LATHE_DEVICE void release",
     "  }\n  LATHE_DEVICE void release"},
    {"key_stage_off_by_one", KERNEL "run_item.cuh", "row_begin, keys(t), group_keys", "row_begin, keys(t + 1), group_keys"},
    {"value_stage_off_by_one", KERNEL "run_item.cuh", "weights, values(t), group_keys", "weights, values(t + 1), group_keys"},
    {"values_loaded_into_live_stage", KERNEL "run_item.cuh", "load_values(t + kStages - 1);", "load_values(t + kStages);"},
    {"keys_reloaded_before_barrier", KERNEL "run_item.cuh", "    dev::Operand<Element, kKeys> weights;\n    if (!filling) {",
     "    dev::Operand<Element, kKeys> weights;\n    if (t >= 0) load_keys(t + kStages);\n    if (!filling) {"},
    {"group_not_committed", KERNEL "run_item.cuh", "loader.copy_keys(k_tile(t), group_keys);\n    pipeline.commit();",
     "loader.copy_keys(k_tile(t), group_keys);"},
    {"queries_not_shared", KERNEL "run_item.cuh", "if (t == 0) dev::block_barrier();", ""},
    {"tiles_reused_by_next_item", KERNEL "kernel.cu", "dev::block_barrier();  // the next tile", "// the next tile"},
    {"page_ids_one_tile_late", KERNEL "run_item.cuh", "loader.prefetch(t + kStages);", "loader.prefetch(t + kStages - 1);"},

    // Layouts of shared memory and fragments.
    {"one_sided_swizzle", "device/memory.cuh", "((chunk ^ row) & 7) * 16", "(chunk & 7) * 16"},
    {"swizzle_of_next_row", "device/memory.cuh", "((2 * i + half) ^ row) & 7", "((2 * i + half) ^ (row + 1)) & 7"},
    {"wrong_panel", "device/memory.cuh", "static_cast<u32>(step / 4) * Tile::kPanelBytes",
     "static_cast<u32>(step / 8) * Tile::kPanelBytes"},
    {"wrong_fragment_lane_a", "device/gemm.cuh", "row_a + lane % 16, lane / 16", "row_a + lane % 16, lane / 8 % 2"},
    {"wrong_fragment_lane_b", "device/gemm.cuh", "lane % 8 + lane / 16 * 8, lane / 8 % 2", "lane % 16, lane / 16"},
    {"values_not_transposed", "device/gemm.cuh", "load_matrix_x4_transposed(bf", "load_matrix_x4(bf"},
    {"wrong_element_column", "device/fragment.cuh", "f(a.v[j][i], row + 8 * (i / 2), a.column(j, i % 2, quad)",
     "f(a.v[j][i], row + 8 * (i / 2), a.column(j, 0, quad)"},
    {"weights_packed_in_wrong_order", "device/fragment.cuh", "p.v[k][1] = pack2<T>(a.v[2 * k][2], a.v[2 * k][3]);",
     "p.v[k][1] = pack2<T>(a.v[2 * k + 1][0], a.v[2 * k + 1][1]);"},
    {"wrong_shuffle_mask_max", "device/fragment.cuh", "m.v[i] = max(x, float_from_bits(shuffle_xor(float_bits(x), 2)));",
     "m.v[i] = max(x, float_from_bits(shuffle_xor(float_bits(x), 4)));"},
    {"wrong_shuffle_mask_sum", "device/fragment.cuh", "s.v[i] += float_from_bits(shuffle_xor(float_bits(s.v[i]), 2));",
     "s.v[i] += float_from_bits(shuffle_xor(float_bits(s.v[i]), 1));"},

    // Keys and values of 8 bits.
    {"query_not_in_order_of_codes", "device/gemm_codes.cuh", "pack2<T>(x[4 * t + half], x[4 * t + half + 2])",
     "pack2<T>(x[4 * t + 2 * half], x[4 * t + 2 * half + 1])"},
    {"odd_chunk_of_keys_dropped", "device/gemm_codes.cuh", "products({b, row, 0}, kPairs, 1);", ";"},
    {"odd_chunk_of_values_twice", "device/gemm_codes.cuh", "products({b, row_b + lane % 16, 0}, k, N / 32, 1);",
     "products({b, row_b + lane % 16, 0}, k, N / 32, 1), products({b, row_b + lane % 16, 0}, k, N / 32, 1);"},
    {"odd_codes_of_even_columns", "device/gemm_codes.cuh", "widen<T, E, 0>(bf[2 * c]), widen<T, E, 0>(bf[2 * c + 1])",
     "widen<T, E, 1>(bf[2 * c]), widen<T, E, 0>(bf[2 * c + 1])"},
    {"columns_of_quads_as_pairs", "device/fragment.cuh", "16 * (j / 2) + 4 * quad + 2 * c + j % 2",
     "16 * (j / 2) + 4 * quad + c + 2 * (j % 2)"},
    {"scale_of_key_dropped", KERNEL "kv_formats.cuh", "s *= column.scale;", ";"},
    {"zero_of_key_added", KERNEL "kv_formats.cuh", "s = dev::fma(-query_sum, column.zero, s);",
     "s = dev::fma(query_sum, column.zero, s);"},
    {"scale_before_the_zero_of_key", KERNEL "kv_formats.cuh", "s = dev::fma(-query_sum, column.zero, s);",
     "s = dev::fma(-query_sum, column.zero, s * column.scale) / column.scale;"},
    {"query_sum_without_channels_zeros", KERNEL "kv_formats.cuh",
     "z = zero.of_channel(16 * step + dev::column_for_codes(word, c));", "z = zero.of_channel(16 * step);"},
    {"scale_of_channel_of_key_dropped", KERNEL "kv_formats.cuh", "x[d] *= scale.of_channel(column + d);",
     "x[d] *= scale.of_channel(column);"},
    {"scale_of_value_on_the_scores", KERNEL "run_item.cuh", "apply_key_scales(scores, query_sums, key_scales);",
     "apply_key_scales(scores, query_sums, key_scales), debt.apply_scales(scores, value_scales);"},
    {"scale_of_value_dropped", KERNEL "kv_formats.cuh", "w *= column.scale * kCodeUnit<ValueFormat::Element>;",
     "w *= kCodeUnit<ValueFormat::Element>;"},
    {"debt_not_shrunk", KERNEL "run_item.cuh", "debt.shrink(shrink);", ""},
    {"debt_of_one_group", KERNEL "epilogue.cuh", "owed += control.debt.load(from) * weight;",
     "owed = control.debt.load(from) * weight;"},
    {"debt_of_one_lane", KERNEL "kv_formats.cuh", "dev::row_add_lanes(owed);", ";"},
    {"scale_of_channel_of_value_wrong", KERNEL "kv_formats.cuh", "x[c] *= scale.of_channel(channel + c);",
     "x[c] *= scale.of_channel(channel);"},
    {"scale_of_all_twice", KERNEL "kv_formats.cuh",
     "? params.sm_scale * params.k_scales.scale :", "? params.sm_scale * params.k_scales.scale * params.k_scales.scale :"},
    {"scales_of_keys_past_the_end", KERNEL "kv_formats.cuh", "key < last ? key : last", "key"},
    {"scale_of_the_wrong_token", KERNEL "kv_formats.cuh", "static_cast<u32>(column) % dev::kWarpSize",
     "static_cast<u32>(column ^ 1) % dev::kWarpSize"},

    // Loading.
    {"tail_not_zeroed", KERNEL "loader.cuh", "dev::at(base, offset + chunk * 16), exists(step));",
     "dev::at(base, offset + chunk * 16), true);"},
    {"last_key_dropped", KERNEL "loader.cuh", "row_of(step) < left_;", "row_of(step) < left_ - 1;"},
    {"wrong_page_stride", KERNEL "loader.cuh", "static_cast<i64>(page_[step]) * stride_page",
     "static_cast<i64>(page_[step]) * (stride_page - stride_token)"},
    {"page_offset_in_32_bits", KERNEL "loader.cuh", "static_cast<i64>(page_[step]) * stride_page",
     "static_cast<int>(page_[step] * stride_page)"},
    {"token_in_page_wrong", KERNEL "loader.cuh", "static_cast<u32>(key) % config::kPageSize",
     "static_cast<u32>(key + 1) % config::kPageSize"},
    {"chunks_past_the_row", KERNEL "loader.cuh", "if (tile.kChunks % 8 != 0 && chunk >= tile.kChunks) break;", ""},
    {"query_of_wrong_row", KERNEL "loader.cuh", "problem.batch_row(plan, row) : 0", "problem.batch_row(plan, row ^ 1) : 0"},
    {"kv_head_of_query_head", KERNEL "problem.cuh", "item.head / config::kGroupSize", "item.head"},

    // Masks.
    {"causal_one_more", KERNEL "problem.cuh", "const int end = q_position(row) + 1;", "const int end = q_position(row) + 2;"},
    {"causal_one_less", KERNEL "problem.cuh", "const int end = q_position(row) + 1;", "const int end = q_position(row);"},
    {"causal_top_left_aligned", KERNEL "problem.cuh", "/ kHeadsPerRow + request.kv_len - request.qo_len", "/ kHeadsPerRow"},
    {"window_one_more", KERNEL "problem.cuh", "- window + 1;", "- window;"},
    {"window_one_less", KERNEL "problem.cuh", "- window + 1;", "- window + 2;"},
    {"uniform_branch_asks_wrong_row", KERNEL "softmax.cuh", "problem.end_key(row_begin);", "problem.end_key(last_row);"},
    {"uniform_branch_asks_wrong_window_row", KERNEL "softmax.cuh", "problem.first_key(last_row, params.window)",
     "problem.first_key(row_begin, params.window)"},

    // Softmax.
    {"o_not_rescaled", KERNEL "run_item.cuh", "dev::scale_rows(o, shrink);", ""},
    {"sum_not_rescaled", KERNEL "softmax.cuh", "          l *= a;\n", ""},
    {"maximum_of_invisible_rows", KERNEL "softmax.cuh", "m == -dev::kInfinity ? 0.0f : m;", "m;"},
    {"soft_cap_without_cap", KERNEL "softmax.cuh", "dev::fma(-2.0f * cap, dev::rcp(1.0f + e), cap)",
     "dev::fma(-2.0f, dev::rcp(1.0f + e), 1.0f)"},
    {"lse_in_wrong_base", KERNEL "merge_parts.cuh", "config::kLseLog2 ? lse : lse * dev::kLn2", "lse"},

    // Warps and blocks that share a tile.
    {"warps_merged_without_factor", KERNEL "epilogue.cuh", "x[half * 4 + c] += part[c] * weight;", "x[half * 4 + c] += part[c];"},
    {"one_warp_left_out", KERNEL "epilogue.cuh", "for (int g = 0; g < groups; ++g) {",
     "for (int g = 0; g == 0 || g + 1 < groups; ++g) {"},
    {"staging_before_barrier", KERNEL "epilogue.cuh", "dev::block_barrier();  // also: no warp", "// no warp"},
    {"divergent_barrier", KERNEL "epilogue.cuh", "dev::block_barrier();  // also: no warp",
     "if (row_begin == 0 && group == 0) dev::block_barrier();  // no warp"},
    {"output_before_barrier", KERNEL "epilogue.cuh", "  dev::block_barrier();\n\n  write_rows(params", "\n  write_rows(params"},
    {"rows_that_do_not_exist_written", KERNEL "epilogue.cuh", "problem.num_rows(tile_rows)", "tile_rows"},
    {"wrong_merge_weight", "kernels/shared/merge_states.cuh", "dev::ex2(lse - higher)", "dev::ex2(0.5f * (lse - higher))"},
    {"last_part_not_merged", KERNEL "merge_parts.cuh", "part < parts.num_parts; ++part", "part + 1 < parts.num_parts; ++part"},
    {"merge_before_the_last_part", KERNEL "merge_parts.cuh", "static_cast<u32>(expected) - 1) return false;",
     "static_cast<u32>(expected) / 2) return false;"},
    {"partial_read_without_acquire", "device/memory.cuh", "return atomic_add_acq_rel(address(), x);",
     "return atomic_add_relaxed(address(), x);"},
    {"partial_published_without_barrier", KERNEL "merge_parts.cuh", "  dev::block_barrier();\n  // At its own merge group",
     "  // At its own merge group"},
    {"merge_counter_not_reset", KERNEL "merge_parts.cuh", "counter.store_relaxed(0);  // for the next launch", ""},
    {"partial_state_in_wrong_row", KERNEL "epilogue.cuh", "const i64 at = static_cast<i64>(problem.item.partial_row) + row;",
     "const i64 at = static_cast<i64>(problem.item.partial_row) + row / 2;"},

    // Lists, replicas and runs of heads.
    {"replica_with_the_first_heads", KERNEL "problem.cuh", "item.head += replica * header(&Header::replica_heads);", ""},
    {"replicas_share_partial_rows", KERNEL "problem.cuh",
     "if (item.partial_row >= 0) item.partial_row += replica * header(&Header::replica_partial_rows);", ""},
    {"replica_merges_the_first_ones_rows", KERNEL "problem.cuh", "group.first + replica * header(&Header::replica_partial_rows)",
     "group.first"},
    {"replicas_share_counters", KERNEL "problem.cuh", "return replica * header(&Header::num_groups) + group;", "return group;"},
    {"last_head_of_a_run_left_out", KERNEL "kernel.cu", "n < Plan(params).item_kind(i).num_heads;",
     "n == 0 || n + 1 < Plan(params).item_kind(i).num_heads;"},

    // Keys that requests share.
    {"shared_row_of_another_request", KERNEL "problem.cuh", "plan.shared_row(request.qo_begin + row).row",
     "plan.shared_row(request.qo_begin + (row ^ 1)).row"},
    {"shared_rows_counted_in_tokens", KERNEL "problem.cuh", "? request.qo_len * kHeadsPerRow : request.qo_len)",
     "? request.qo_len * kHeadsPerRow : request.qo_len / kHeadsPerRow)"},
    {"leaf_does_not_wait_for_shared_tiles", KERNEL "merge_parts.cuh", "shared ? 0 : tile.num_links;", "0;"},
    {"shared_tile_does_not_wait_for_the_leaf", KERNEL "merge_parts.cuh", "plan.group(at).num_parts + links",
     "(l < 0 ? plan.group(at).num_parts : 0) + links"},
    {"shared_tile_arrives_at_one_leaf", KERNEL "merge_parts.cuh", "end = tile.num_links;", "end = 1;"},
    {"shared_tile_merges_every_leaf", KERNEL "merge_parts.cuh",
     "if (dev::shared_load_u32(control.completes(from.link)) == 0) return;", ""},
    {"leaves_merged_before_barrier", KERNEL "merge_parts.cuh", "    dev::block_barrier();\n    if (",
     "    if (begin < 0) dev::block_barrier();\n    if ("},
    {"last_shared_tile_not_merged", KERNEL "merge_parts.cuh", "l < tile.num_links; ++l", "l + 1 < tile.num_links; ++l"},
    {"shared_state_of_the_first_leaf", KERNEL "merge_parts.cuh", "at += link.row;", ""},
    {"shared_state_of_the_first_head", KERNEL "problem.cuh", "return i * header(&Header::replica_heads) + head;",
     "return i * header(&Header::replica_heads);"},
    {"shared_parts_at_the_leafs_stride", KERNEL "merge_parts.cuh", "num_rows = plan.linked_tile(link.tile).num_rows;", ""},

    // The merge kernel.
    {"merge_reads_one_state", MERGE, "state * params.state_stride_o + row_bytes", "0 * params.state_stride_o + row_bytes"},
    {"merge_lse_not_converted", MERGE, "store(row, lse * kFromLog2)", "store(row, lse)"},
    {"merge_of_empty_state", "kernels/shared/merge_states.cuh", "if (lse == -dev::kInfinity) return;", ""},
    {"merge_output_dropped", MERGE, "hooks::finish_row(params.hooks, at, chunk, o, lse);",
     "if constexpr (hooks::kSink) hooks::add_sink(params.hooks, at, o, lse);"},
    {"merge_sink_not_in_lse", MERGE, "hooks::finish_row(params.hooks, at, chunk, o, lse);",
     "float own = lse;\n    hooks::finish_row(params.hooks, at, chunk, o, own);"},
    {"merge_sink_in_every_state", MERGE, "hooks::finish_row(params.hooks, at, chunk, o, lse);",
     "for (int state = 1; state < num_states; ++state) hooks::add_sink(params.hooks, at, o, lse);\n"
     "    hooks::finish_row(params.hooks, at, chunk, o, lse);"},
    // `output` of each state, with its own lse, and none of what they make together.
    {"merge_output_in_every_state", MERGE,
     "row_bytes), x);\n        },\n        o);\n    hooks::ElementInputs at{};\n"
     "    at.row.h = row % params.num_heads, at.row.tok = row / params.num_heads;\n"
     "    hooks::finish_row(params.hooks, at, chunk, o, lse);",
     "row_bytes), x);\n          hooks::ElementInputs in{};\n"
     "          in.row.h = row % params.num_heads, in.row.tok = row / params.num_heads;\n"
     "          float own = dev::GlobalList<float>{dev::at(params.lse, state * params.state_stride_lse)}.load(row);\n"
     "          for (int c = 0; c < 8; ++c) in.d = chunk * 8 + c, x[c] = hooks::output(params.hooks, in, x[c], own);\n"
     "        },\n        o);\n    hooks::ElementInputs at{};\n    at.row.h = row % params.num_heads;\n"
     "    hooks::add_sink(params.hooks, at, o, lse);"},
    {"merge_tokens_as_heads", MERGE, "at.row.h = row % params.num_heads, at.row.tok = row / params.num_heads;",
     "at.row.h = row / params.num_heads, at.row.tok = row % params.num_heads;"},

    // Hooks.
    {"mask_hook_dropped", KERNEL "softmax.cuh", "    if (!judges) return;", "    return;"},
    {"logits_without_scale", KERNEL "softmax.cuh", "s, s * params.sm_scale", "s, s"},
    {"every_run_full", KERNEL "problem.cuh", "full_ = run.full != 0;", "full_ = true;"},
    {"run_not_shifted", KERNEL "problem.cuh", "shift_ = run.kv_begin - run.begin;", "shift_ = 0;"},
    {"runs_of_first_head", KERNEL "problem.cuh", "request * header(&Header::replica_heads) + head",
     "request * header(&Header::replica_heads)"},
    {"runs_of_first_rows", KERNEL "problem.cuh", "+ problem.item.row_begin / tile_rows", ""},
    {"group_keys_left_out", KERNEL "loader.cuh", "line_.key(params_, place) + group_keys_", "line_.key(params_, place)"},
    {"sink_dropped", FINISH, "if constexpr (kSink) add_sink(args, at, o, lse);", ""},
    {"sink_in_every_part", KERNEL "epilogue.cuh", "const i64 at = static_cast<i64>(problem.item.partial_row) + row;",
     "const i64 at = static_cast<i64>(problem.item.partial_row) + row;\n      hooks::ElementInputs in{};\n"
     "      in.row.h = QueryRow(problem.batch_row(plan, row), problem.item.head).head;\n      hooks::add_sink(params.hooks, in, x, "
     "lse);"},
    {"sink_in_wrong_base", FINISH, "sink(args, at) * dev::kLog2E", "sink(args, at)"},
    {"sink_of_wrong_head", KERNEL "merge_parts.cuh", "in.row.h = at.head,", "in.row.h = 0,"},
    {"weight_hook_dropped", KERNEL "run_item.cuh", "if constexpr (hooks::kWeight)", "if constexpr (false)"},
    {"lse_transform_in_base_2", KERNEL "merge_parts.cuh", "hooks::lse_transform(params.hooks, in, lse * dev::kLn2)",
     "hooks::lse_transform(params.hooks, in, lse)"},
    {"output_of_wrong_channel", FINISH, "at.d = chunk * 8 + c;", "at.d = c;"},
    {"rows_past_the_end_asked_for", KERNEL "softmax.cuh", "row_begin + row < last ? row_begin + row : last", "row_begin + row"},
    {"keys_past_the_end_asked_for", KERNEL "softmax.cuh", "key < last ? key : last", "key"},
    {"column_of_its_neighbour", "device/fragment.cuh", "columns(a.column(j, c, quad))", "columns(a.column(j, 1 - c, quad))"},
    {"row_of_its_neighbour", "device/fragment.cuh", "f(a.v[j][2 * i + c], column, rows.v[i]...)",
     "f(a.v[j][2 * i + c], column, rows.v[0]...)"},
    {"slot_of_the_wrong_lane", KERNEL "softmax.cuh", "const u32 lane = static_cast<u32>(column) % dev::kWarpSize;",
     "const u32 lane = static_cast<u32>(column ^ 1) % dev::kWarpSize;"},
    {"slot_of_the_page", KERNEL "problem.cuh", "at.page * config::kPageSize + at.index", "at.page * config::kPageSize"},
    {"turned_queries_not_shared", KERNEL "run_item.cuh",
     "transform_queries(q_tile, params, problem);\n        dev::block_barrier();", "transform_queries(q_tile, params, problem);"},
    {"turned_keys_not_shared", KERNEL "run_item.cuh", "hooks::key(params.hooks, in, x, rot_x); });\n        group.sync();",
     "hooks::key(params.hooks, in, x, rot_x); });"},
    {"turned_the_other_way", KERNEL "vector_hooks.cuh", "rot[0] = -x[2], rot[1] = -x[3], rot[2] = x[0], rot[3] = x[1];",
     "rot[0] = x[2], rot[1] = x[3], rot[2] = -x[0], rot[3] = -x[1];"},
    {"sum_of_the_neighbours_query", KERNEL "query_sums.cuh", "tile.chunk_offset(row_begin + row,",
     "tile.chunk_offset(row_begin + (row ^ 1),"},
    {"norm_without_root", KERNEL "query_sums.cuh", "hooks::query_norm(x));", "x);"},
    {"sum_of_squares", KERNEL "query_sums.cuh", "return sum + x;", "return sum + x * x;"},
    {"norm_is_the_sum", KERNEL "query_sums.cuh", "in.qnorm = Control().query_norm.load(at);", "in.qnorm = in.qsum;"},
    {"query_sums_not_waited_for", KERNEL "query_sums.cuh", "  dev::warp_sync();\n", ""},
    {"query_sums_of_the_first_warp", KERNEL "query_sums.cuh",
     "at = static_cast<int>(dev::warp_index()) * dev::kFragmentRows + row;", "at = row;"},
    {"queries_summed_with_the_keys_scales", KERNEL "run_item.cuh",
     "fold_query_scales(q_tile, params, problem);\n        dev::block_barrier();",
     "fold_query_scales(q_tile, params, problem);\n        dev::block_barrier();\n        keep_query_sums(q_tile, row_begin);"},
    {"queries_scaled_while_they_are_summed", KERNEL "run_item.cuh", "dev::block_barrier();  // before they are scaled", ";"},

    // Hooks of codes.
    {"scale_dropped_before_the_hook", KERNEL "vector_hooks.cuh", "    x *= scale_;\n", ""},
    {"scale_of_channel_dropped_before_the_hook", KERNEL "vector_hooks.cuh",
     "x *= kv::Table{scales_.channel_scale, kv_head_}.of_channel(d);", ";"},
    {"scale_of_token_dropped_before_the_hook", KERNEL "vector_hooks.cuh",
     "scale_ *= kv::Table{scales.token_scale, kv_head_}.of_token(at);", ";"},
    {"zero_added_before_the_hook", KERNEL "vector_hooks.cuh", "float x = code - (", "float x = code + ("},
    {"zero_of_another_channel_before_the_hook", KERNEL "vector_hooks.cuh", "{scales_.zero, kv_head_}.of_channel(d)",
     "{scales_.zero, kv_head_}.of_channel(d ^ 1)"},
    {"even_codes_twice", KERNEL "vector_hooks.cuh", "dev::widen<Element, E, 1>(codes)", "dev::widen<Element, E, 0>(codes)"},
    {"codes_of_the_first_half_word", KERNEL "vector_hooks.cuh", "word >> (column % 4 * 8)", "word"},
    {"scale_of_the_last_key", KERNEL "vector_hooks.cuh", "key_of(row) < last ? key_of(row) : last", "last"},
    {"hooks_of_codes_past_the_end", KERNEL "vector_hooks.cuh", "if (key_of(row) > last) return 0.0f;", ""},
    {"changed_values_not_shared", KERNEL "run_item.cuh", "hooks::value(params.hooks, in, x, rot_x); });\n        group.sync();",
     "hooks::value(params.hooks, in, x, rot_x); });"},
    {"changed_values_at_the_keys_codes", KERNEL "run_item.cuh", "config::kHeadDimVo>{kChangedBase};",
     "config::kHeadDimVo>{kVBase};"},
    {"sum_of_the_last_part", "kernels/shared/merge_states.cuh", "o[c] += x[c];", "o[c] = x[c];"},

    // Appending to a cache.
    {"halves_turned_the_other_way", APPEND "rope.cuh", "first ? -pair : pair", "first ? pair : -pair"},
    {"neighbours_turned_the_other_way", APPEND "rope.cuh", "dev::fma(a, cosine[i], -sine[i] * b)",
     "dev::fma(a, cosine[i], sine[i] * b)"},
    {"sines_of_the_first_pairs", APPEND "rope.cuh", "row.load4(kHalf + 4 * at.chunk, sine);", "row.load4(kHalf, sine);"},
    {"halves_of_the_whole_head", APPEND "rope.cuh", "config::kTurnedDims / 2 / 8;", "config::kHeadDimQk / 2 / 8;"},
    {"embedded_by_token", APPEND "rope.cuh", "params.positions}.load(at.token)", "params.positions}.load(0)"},
    {"padding_stored", APPEND "vector.cuh", "if (slot < 0) return kPadding;", "if (slot < -1) return kPadding;"},
    {"padding_of_requests_stored", APPEND "vector.cuh", "if (request < 0) return kPadding;", ""},
    {"pages_of_the_first_request", APPEND "vector.cuh", "static_cast<i64>(request) * params.block_table_stride", "i64{0}"},
    {"lanes_without_elements_store", APPEND "vector.cuh", "exists && lane % kLanes < DIM / 8}", "exists}"},
    {"heads_mistaken", APPEND "vector.cuh", "{at / heads, at % heads,", "{at / heads, 0,"},
    {"values_in_the_pages_of_keys", APPEND "append_vectors.cuh", "place.page * params.v_cache_stride_page",
     "place.page * params.k_cache_stride_page"},
    {"groups_skipped", APPEND "append_vectors.cuh", "i += step) {", "i += 2 * step) {"},
    {"range_of_half_the_lanes", APPEND "store_vector.cuh", "mask = LANES / 2; mask > 0;", "mask = LANES / 4; mask > 0;"},
    {"scale_of_token_inverted", APPEND "store_vector.cuh", ".set_token(place, scale);", ".set_token(place, inverse);"},
    {"zero_of_token_forgotten", APPEND "store_vector.cuh", "x[i] = dev::fma(x[i], inverse, zero);", "x[i] = x[i] * inverse;"},
    {"zero_of_channel_subtracted", APPEND "store_vector.cuh", "x[i] += kv::Table{scales.zero", "x[i] -= kv::Table{scales.zero"},
    {"channels_multiplied", APPEND "store_vector.cuh", "x[i] *= dev::rcp(scales.scale * kv::Table{",
     "x[i] *= (scales.scale * kv::Table{"},
    {"given_scale_dropped", APPEND "store_vector.cuh", "x[i] *= inverse;\n", ";\n"},
    {"no_code_saturates", "device/to_codes.cuh", "min(abs(x), kLargestCode<E>)", "abs(x)"},
    {"ties_cut_off", "device/to_codes.cuh", " + (bits >> kDrop & 1u)", ""},
    {"small_codes_as_large_ones", "device/to_codes.cuh", "bits < kLeastNormal ? small : normal", "false ? small : normal"},
    {"codes_in_reverse", "device/to_codes.cuh", "<< (i % 4 * 8)", "<< (24 - i % 4 * 8)"},

    // Planning on the device.
    {"block_sum_leaves_warps_out", "device/collectives.cuh", "if (w < static_cast<int>(warp_index())) base += part;",
     "if (w + 1 < static_cast<int>(warp_index())) base += part;"},
    {"scan_shifts_twice", "device/collectives.cuh", "return base + sum - x;", "return base + sum;"},
    {"row_blocks_before_barrier", PLAN "make_plan.cuh", "first_block.store(params.num_requests, total);\n  dev::block_barrier();",
     "first_block.store(params.num_requests, total);"},
    {"reduction_scratch_reused_too_early", "device/collectives.cuh", "  block_barrier();  // before the scratch is used again\n",
     ""},
    {"last_page_taken_as_full", PLAN "make_plan.cuh", "(kv_len - 1) * params.page_size + last", "kv_len * params.page_size"},
    {"request_after_the_right_one", PLAN "make_plan.cuh", "first_block.load(middle) <= i", "first_block.load(middle) < i"},
    {"group_of_one_part_less", PLAN "make_plan.cuh", "words.store(2 * index + 1, num_parts);",
     "words.store(2 * index + 1, num_parts - 1);"},
};

#undef APPEND
#undef PLAN
#undef KERNEL

}  // namespace

std::span<const Mutant> mutants() {
  return kMutants;
}

Result<TemplateStore> plant(const Mutant& mutant) {
  const TemplateStore& shipped = TemplateStore::embedded();
  const std::string* text = shipped.find(mutant.file);
  if (text == nullptr) return invalid_argument(mutant.name, std::string("there is no template ") + mutant.file);
  const std::string find = mutant.find;
  const size_t at = text->find(find);
  if (at == std::string::npos || text->find(find, at + 1) != std::string::npos) {
    return invalid_argument(mutant.name, std::string("its text must occur exactly once in ") + mutant.file + ": " + find);
  }
  std::string changed = *text;
  changed.replace(at, find.size(), mutant.replace);
  return shipped.with(mutant.file, std::move(changed));
}

}  // namespace lathe::testing
