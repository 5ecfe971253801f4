#include "timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <numeric>
#include <vector>

namespace lathe {
namespace {

constexpr double kWidth = 1100, kLeft = 60, kTop = 34, kBottom = 26;  // of the plot and around it, in pixels
constexpr double kPlotHeight = 660;                                   // whatever the number of blocks
constexpr double kMaxBar = 14;
constexpr int kTicks = 8;
constexpr size_t kLegend = 24;  // requests that the legend names

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

// Colours that differ most between neighbours: steps of the golden angle around the circle of hues, in three depths. Written as
// red, green and blue, which every viewer of SVG reads.
std::string colour(int32_t request) {
  constexpr double kGoldenAngle = 137.508, kSaturation = 0.6;
  const double hue = std::fmod(request * kGoldenAngle, 360.0), lightness = 0.48 + 0.11 * (request % 3);
  const double amplitude = kSaturation * std::min(lightness, 1 - lightness);
  const auto channel = [&](double offset) {
    const double k = std::fmod(offset + hue / 30, 12);
    return static_cast<int>(255 * (lightness - amplitude * std::clamp(std::min(k - 3, 9 - k), -1.0, 1.0)));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", channel(0), channel(8), channel(4));
}

void draw_axis(std::string& svg, double us_per_width, double height) {
  for (int i = 0; i <= kTicks; ++i) {
    const double x = kLeft + kWidth * i / kTicks;
    fmt::format_to(std::back_inserter(svg),
                   "<line x1='{0:.1f}' y1='{1}' x2='{0:.1f}' y2='{2:.1f}' stroke='#ddd'/>"
                   "<text x='{0:.1f}' y='{3:.1f}' text-anchor='middle'>{4:.1f}</text>\n",
                   x, kTop, kTop + height, kTop + height + 16, us_per_width * i / kTicks);
  }
}

// A vertical line at `us`, with words above it.
void draw_mark(std::string& svg, double us, double us_per_width, double height, const char* colour_name, double text_y,
               const std::string& words) {
  const double x = kLeft + kWidth * us / us_per_width;
  fmt::format_to(std::back_inserter(svg),
                 "<line x1='{0:.1f}' y1='{1}' x2='{0:.1f}' y2='{2:.1f}' stroke='{3}' stroke-width='1.5' stroke-dasharray='5 3'/>"
                 "<text x='{4:.1f}' y='{5}' fill='{3}'>{6}</text>\n",
                 x, kTop - 4, kTop + height, colour_name, x + 4, text_y, words);
}

void draw_bars(std::string& svg, const EvaluatedBatch& batch, const Assignment& assignment, double us_per_width, double bar) {
  std::vector<int64_t> at(assignment.num_ctas);  // picoseconds
  for (const Piece& piece : assignment.pieces) {
    const int64_t took = piece_picoseconds(batch, assignment, piece);
    const double scale = kWidth / us_per_width / 1e6;
    const std::string place =
        fmt::format("x='{:.2f}' y='{:.2f}' width='{:.2f}' height='{:.2f}'", kLeft + static_cast<double>(at[piece.cta]) * scale,
                    kTop + bar * piece.cta, static_cast<double>(took) * scale, bar);
    fmt::format_to(std::back_inserter(svg), "<rect {} fill='{}' stroke='#fff' stroke-width='0.3'>", place, colour(piece.request));
    fmt::format_to(std::back_inserter(svg),
                   "<title>block {}, request {}, heads {}..{}, rows from {}, keys {}..{}{}, {:.1f} us</title></rect>", piece.cta,
                   piece.request, piece.head, piece.head + piece.num_heads - 1, piece.row_begin, piece.kv_begin, piece.kv_end,
                   piece.partial ? ", part" : "", static_cast<double>(took) / 1e6);
    if (piece.partial) fmt::format_to(std::back_inserter(svg), "<rect {} fill='url(#part)' pointer-events='none'/>", place);
    svg += '\n';
    at[piece.cta] += took;
  }
}

std::string drawing(const EvaluatedBatch& batch, const TimelineRow& row, double us_per_width) {
  const double bar = std::min(kMaxBar, kPlotHeight / row.assignment->num_ctas), height = bar * row.assignment->num_ctas;
  const Evaluation& e = row.evaluation;
  std::string svg = fmt::format(
      "<h2>{}</h2>\n<p>{} blocks, {} pieces; longest {:.1f} us, mean {:.1f} us, ideal {:.1f} us; imbalance {:.3f}, efficiency loss "
      "{:.3f}</p>\n<svg width='{}' height='{}' font-size='11' font-family='sans-serif'>\n",
      escaped(row.title), row.assignment->num_ctas, row.assignment->pieces.size(), e.longest_us, e.mean_us, e.ideal_us,
      e.imbalance(), e.efficiency_loss(), kLeft + kWidth + 70, kTop + height + kBottom);
  draw_axis(svg, us_per_width, height);
  draw_bars(svg, batch, *row.assignment, us_per_width, bar);
  draw_mark(svg, e.mean_us, us_per_width, height, "#000", 12, fmt::format("mean {:.1f} us", e.mean_us));
  draw_mark(svg, e.ideal_us, us_per_width, height, "#c00", 24, fmt::format("ideal {:.1f} us", e.ideal_us));
  fmt::format_to(std::back_inserter(svg), "<text x='4' y='{}'>block 0</text><text x='4' y='{:.1f}'>{}</text></svg>\n", kTop + 10,
                 kTop + height, row.assignment->num_ctas - 1);
  return svg;
}

std::string legend(const EvaluatedBatch& batch) {
  std::vector<int32_t> requests(batch.kv_lens.size());
  std::iota(requests.begin(), requests.end(), 0);
  std::ranges::stable_sort(requests, std::greater<>{}, [&](int32_t r) { return int64_t{batch.kv_lens[r]} * batch.qo_lens[r]; });
  std::string html =
      "<h2>Legend</h2>\n<p>A bar is a piece of work, in the colour of its request; hatched: a part of a tile that is cut "
      "along its keys. Time runs to the right, in microseconds of the model.</p>\n<ul class='legend'>\n";
  for (size_t i = 0; i < std::min(requests.size(), kLegend); ++i) {
    const int32_t r = requests[i];
    fmt::format_to(std::back_inserter(html), "<li><i style='background:{}'></i>request {}: {} query tokens, {} keys</li>\n",
                   colour(r), r, batch.qo_lens[r], batch.kv_lens[r]);
  }
  if (requests.size() > kLegend)
    fmt::format_to(std::back_inserter(html), "<li>and {} with less work</li>\n", requests.size() - kLegend);
  return html + "</ul>\n";
}

}  // namespace

std::string timeline_html(const std::string& title, const EvaluatedBatch& batch, std::span<const TimelineRow> rows) {
  double longest = 0;
  for (const TimelineRow& row : rows) longest = std::max(longest, row.evaluation.longest_us);
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang='en'><head><meta "
      "charset='utf-8'><title>{0}</title>\n<style>body{{font-family:sans-serif;margin:1.5em}}"
      "h1{{font-size:1.3em}}h2{{font-size:1.1em;margin-bottom:0}}.legend{{columns:3;list-style:none;padding:0;font-size:.85em}}"
      ".legend "
      "i{{display:inline-block;width:1em;height:1em;margin-right:.4em;vertical-align:middle}}</style></head>\n<body><h1>{0}</h1>\n"
      "<svg width='0' height='0'><defs><pattern id='part' width='5' height='5' patternUnits='userSpaceOnUse' "
      "patternTransform='rotate(45)'><line x1='0' y1='0' x2='0' y2='5' stroke='#000' stroke-opacity='.55' stroke-width='1.6'/>"
      "</pattern></defs></svg>\n",
      escaped(title));
  for (const TimelineRow& row : rows) html += drawing(batch, row, std::max(longest, 1e-3));
  return html + legend(batch) + "</body></html>\n";
}

}  // namespace lathe
